"""Data sets that can be made or fetched."""
