"""Execution of a run, from its first trial to its report."""
