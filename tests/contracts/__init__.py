"""What an implementation of each Protocol must pass."""
