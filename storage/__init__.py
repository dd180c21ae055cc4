"""Nouns and where they are kept."""
