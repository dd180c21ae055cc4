"""What the words of sheets and folders mean: classes, gaps, names of columns and patients."""
