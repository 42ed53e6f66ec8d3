"""Reads of the result tables, for the commands, the API and the page."""
