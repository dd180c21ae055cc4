"""Page and files of ``outerfold explain``."""
