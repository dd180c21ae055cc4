"""Numbers of a run: ``results.json`` and the joined predictions."""
