"""Reporting checklists, filled from a run as far as it knows the answers."""
