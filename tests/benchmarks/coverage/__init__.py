"""Tests of benchmarks/coverage."""
