"""Image representations: decoded squares, embeddings and activations, stored on disk."""
