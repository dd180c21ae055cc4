"""Trained models that predict, and their calibration."""
