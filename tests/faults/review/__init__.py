"""People's decisions under faults."""
