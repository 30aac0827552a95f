"""How good words and labels are. Knows no model."""
