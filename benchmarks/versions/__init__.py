"""Comparison of the runs of two versions of the code, file by file."""
