"""Canaries: a share of the live rows gets the label of another version too, and is watched."""
