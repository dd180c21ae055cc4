"""Training rows of a network: resampling, encoding and batches."""
