"""Promises under faults: processes killed and paused, dependencies away."""
