"""The nested protocol, its schedule, its engines and the command line."""
