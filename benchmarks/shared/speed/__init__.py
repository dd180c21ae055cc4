"""Study of the speed comparison with other libraries, costs of a trial, and their page."""
