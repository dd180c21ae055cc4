"""Checks of a data set before any training: images, patients, classes and columns."""
