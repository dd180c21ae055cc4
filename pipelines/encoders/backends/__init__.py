"""Libraries that compute an encoder's values: torch, or OpenVINO where it gives the same."""
