"""Pipelines of the tasks, one file each."""
