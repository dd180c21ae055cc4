"""Sections of the report on the analyses, as blocks."""
