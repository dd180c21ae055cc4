"""The numbers of a finished run."""
