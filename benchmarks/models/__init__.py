"""What parts of the models are worth."""
