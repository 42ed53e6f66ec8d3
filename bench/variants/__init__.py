"""What verified variants cost live labels: `python -m bench.variants`."""
