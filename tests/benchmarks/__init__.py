"""Tests of the benchmarks: what they draw, run and count."""
