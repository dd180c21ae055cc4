"""Verification of finished runs and of other people's predictions."""
