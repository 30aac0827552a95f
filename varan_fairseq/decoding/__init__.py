"""From a fine-tuned model to words: emissions, search, alignment, long audio. The command-line
tools and the Python face are thin faces of what is here."""
