"""Computations of ``outerfold explain``: heat maps and permutation importance."""
