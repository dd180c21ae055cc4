"""Watching of a run from another terminal or machine."""
