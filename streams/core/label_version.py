"""A label version: what it is made of and how it is named."""

from __future__ import annotations

HUMAN = "human"


# Of the model's name of a human label that was taken back.
UNDONE = ":undo"
