"""Rows that a network trains on."""
