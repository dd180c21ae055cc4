"""How jobs reach worker processes."""
