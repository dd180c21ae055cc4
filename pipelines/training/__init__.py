"""Training loops of heads and of tails."""
