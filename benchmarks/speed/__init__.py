"""How long a user waits, and for what."""
