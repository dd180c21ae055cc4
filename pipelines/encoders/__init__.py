"""Frozen image encoders, one file a family."""
