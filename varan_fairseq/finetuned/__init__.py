"""Fine-tuned models: loaded, run over a split, cut."""
