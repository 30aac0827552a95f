"""What part of a fine-tuning model a weight belongs to."""

from ..lora import KEYS as LORA_KEYS


def parameter_group(name: str, features: str) -> str:
    """What part of a fine-tuning model a parameter or buffer belongs to. features: prefix of
    the feature encoder's weights in the pre-trained model."""
    parts = name.split(".")
    if parts[0] == "aggregation":
        return {"scalars": "layer weights", "norms": "layer norms"}.get(parts[1], parts[1])
    if parts[-1] in LORA_KEYS:
        return "magnitudes" if parts[-1] == "lora_magnitude" else "low-rank factors"
    if parts[0] != "w2v_encoder":
        return parts[0]
    inside = name[len("w2v_encoder.w2v_model.") :]
    return "feature encoder" if inside.startswith(features) else "transformer"
