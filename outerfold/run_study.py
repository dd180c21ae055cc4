"""For ``dask worker --preload outerfold.run_study``: loads the package, and nothing else."""
