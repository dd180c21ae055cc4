"""Two versions of the code, run side by side and compared file by file."""
