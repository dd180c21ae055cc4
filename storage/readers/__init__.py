"""Readers of the data layouts found in the wild, each to the same `Dataset`."""
