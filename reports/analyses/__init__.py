"""Answers to questions of a reader that need more than a metric: numbers of `results.json`."""
