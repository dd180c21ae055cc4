"""Python door: a run from a program, and what a finished run holds."""
