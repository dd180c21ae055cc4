"""Image files and their conversion to pixels."""
