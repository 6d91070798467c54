"""Losses, self-distillation and sharpness-aware minimisation."""
