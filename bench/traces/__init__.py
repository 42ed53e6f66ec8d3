"""What traces cost: `python -m bench.traces`."""
