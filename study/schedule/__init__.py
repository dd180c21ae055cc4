"""Order of the trials of all studies, and rules that end a search."""
