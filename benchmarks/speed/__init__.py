"""Benchmarks of speed: how long a user waits, and for what."""
