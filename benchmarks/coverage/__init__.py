"""Whether the intervals cover."""
