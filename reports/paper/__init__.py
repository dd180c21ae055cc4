"""Text and tables of a run for a paper: methods, references, patients and columns."""
