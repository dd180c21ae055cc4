"""Blocks to DOCX, HTML and pictures."""
