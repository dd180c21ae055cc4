"""Command line of outerfold."""
