"""Images as encoders represent them."""
