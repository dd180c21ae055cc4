"""Options of a run: their records, their parsing and their defaults."""
