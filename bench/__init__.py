"""Measurements, one file for each question: ``python -m bench.sink --help``. Ratios count, not absolute
figures.
"""
