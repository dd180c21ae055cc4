"""Tests of `study/door`."""
