"""A run from its first trial to its report."""
