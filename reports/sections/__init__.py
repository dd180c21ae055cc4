"""Parts of the report as blocks."""
