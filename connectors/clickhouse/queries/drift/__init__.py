"""Reads by which drift is found: counts of a time, and rows to be asked again."""
