"""Work of a worker process: the jobs, the session of a run, and the end of a study."""
