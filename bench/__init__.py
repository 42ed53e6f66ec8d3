"""Measurements, one file a question: ``python -m bench.sink --help``. Ratios count, not figures."""
