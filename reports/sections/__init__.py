"""Sections of the report, made of blocks."""
