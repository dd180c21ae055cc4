"""Augmentation: views of images that are kept, and random changes during training."""
