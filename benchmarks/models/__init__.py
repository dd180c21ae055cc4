"""Benchmarks of parts of the models: calibration, fine-tuning, framing of images."""
