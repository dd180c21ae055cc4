"""Use of a GPU: what trains on it, how many workers share it, and what else it could train."""
