"""What ``outerfold explain`` computes."""
