"""Networks, losses and random numbers of the heads."""
