"""Frozen image encoders, one file for each family."""
