"""Benchmarks of pruning and scheduling: their effect on a search."""
