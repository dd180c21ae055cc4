"""Confidence intervals over patients."""
