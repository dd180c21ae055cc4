"""Models that learn from the rows they are given and no others."""
