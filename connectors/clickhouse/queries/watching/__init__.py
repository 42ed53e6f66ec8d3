"""Reads of what is watched: canaries, cascades, drift, and variants."""
