"""What is searched and what is scored."""
