"""Conversion of blocks to DOCX, HTML and pictures."""
