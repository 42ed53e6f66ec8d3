"""Erased rows: the list of them, and what is left of them in the result tables."""
