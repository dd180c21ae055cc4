"""Which trial comes next, and when a study ends."""
