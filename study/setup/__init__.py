"""Preparation of a run before its first trial: data, audit, folds, embeddings and plan."""
