"""Trained models as files: writing them and reading them back."""
