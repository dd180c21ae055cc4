"""Metrics as records: what each scores, on which scale, and how a patient is left out of it."""
