"""What leaks gain, and what it costs to find them."""
