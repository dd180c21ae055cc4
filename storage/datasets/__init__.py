"""Data sets that outerfold can make (the demo) or download (from Kaggle)."""
