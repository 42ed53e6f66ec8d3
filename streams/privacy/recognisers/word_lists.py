"""The lists of words in ``data/``: words between white space, in lower case."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def words(name: str) -> frozenset[str]:
    """The words of a list, read once."""
    return frozenset(files(__package__).joinpath("data", f"{name}.txt").read_text("utf-8").split())
