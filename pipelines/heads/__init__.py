"""Heads: networks, losses, optimiser and random streams."""
