"""The other side of the speed comparison, and its page."""
