"""Lines of a text file, of which none is ever so long that it fills the memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

LONGEST = 1_000_000
_UNDECODED = re.compile("[\ud800-\udfff]")


class Line(NamedTuple):
    """``text`` with its end; ``number`` from 1. ``too_long``: only its beginning."""

    number: int
    text: str
    too_long: bool = False


def lines(path: Path, encoding: str) -> Iterator[Line]:
    """The file's lines. Bytes that are no text in ``encoding`` come as lone surrogates, or U+FFFD.

    A line ends with LF, CR LF or CR, as Python's csv module has it.

    Raises:
        OSError.
    """
    errors = "replace" if encoding.startswith("utf-16") else "surrogateescape"
    with path.open(encoding=encoding, errors=errors, newline="") as file:
        number = 0
        while text := file.readline(LONGEST):
            number += 1
            too_long = len(text) >= LONGEST and text[-1] not in "\r\n"
            rest = text
            while too_long and rest and rest[-1] not in "\r\n":
                rest = file.readline(LONGEST)
            yield Line(number, text, too_long)


def undecoded(text: str) -> int | None:
    """Where the first character stands that was no text, from 0."""
    if text.isascii():
        return None
    found = _UNDECODED.search(text)
    return found.start() if found is not None else None
