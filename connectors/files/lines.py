"""Lines of a text file, each of bounded length, so that none fills the memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TextIO

from connectors.files.texts import refused

LONGEST = 1_000_000
_UNDECODED = re.compile("[\ud800-\udfff]")


class Line(NamedTuple):
    """``text`` with its line end; ``number`` from 1. ``too_long``: only its beginning."""

    number: int
    text: str
    too_long: bool = False


@contextmanager
def opened(path: Path, encoding: str) -> Iterator[TextIO]:
    """The file as text. Bytes that are invalid in ``encoding`` become lone surrogates, or U+FFFD.

    Raises:
        OSError. RefusedError: it begins as no text in ``encoding`` does.
    """
    errors = "replace" if encoding.startswith(("utf-16", "utf-32")) else "surrogateescape"
    try:
        with path.open(encoding=encoding, errors=errors, newline="") as file:
            yield file
    except UnicodeError as error:  # without a byte order mark, where the encoding needs one
        raise refused("another encoding", reason="encoding", encoding=encoding, error=error) from error


def lines(path: Path, encoding: str, begin: int = 1) -> Iterator[Line]:
    """The file's lines from number ``begin`` on, as `opened` decodes them.

    A line ends with LF, CR LF or CR, as in Python's csv module. Files that were joined have byte order marks
    in the middle: they are left out.
    """
    with opened(path, encoding) as file:
        number = 0
        while text := file.readline(LONGEST):
            number += 1
            too_long = len(text) >= LONGEST and text[-1] not in "\r\n"
            rest = text
            while too_long and rest and rest[-1] not in "\r\n":
                rest = file.readline(LONGEST)
            if number >= begin:
                yield Line(number, text.lstrip("\ufeff") if text[0] == "\ufeff" else text, too_long)


def undecoded(text: str) -> int | None:
    """The position, from 0, of the first character that was invalid."""
    if text.isascii():
        return None
    found = _UNDECODED.search(text)
    return found.start() if found is not None else None
