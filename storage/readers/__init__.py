"""Readers of common data layouts; each one makes a `Dataset`."""
