"""Manifests, labels and audio: reading, checking, writing. Knows no model."""
