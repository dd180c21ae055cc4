"""Benchmarks of leaks: how much they raise scores, and the time to find them."""
