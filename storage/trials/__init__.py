"""Storage of a run's trials: journal file or database, ownership, and the view of one trial."""
