"""Engines, which run jobs in worker processes of this machine or of a Dask cluster."""
