"""Benchmarks of the coverage of the confidence intervals."""
