"""Benchmarks of the growth of time and memory."""
