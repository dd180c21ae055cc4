"""The pages of ``outerfold explain``."""
