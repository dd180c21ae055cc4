"""Finished runs to numbers, tables, figures and documents."""
