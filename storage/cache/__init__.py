"""Files and array rows that are computed once and kept on disk."""
