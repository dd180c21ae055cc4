"""What pruning and scheduling cost a search."""
