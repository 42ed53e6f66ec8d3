"""JSON lines: one object a line, with the slips that are common in them."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from connectors.files.lines import lines, undecoded
from connectors.files.records import Broken, FileRecord, Reading

_PLACE = re.compile(r"(?:: line \d+ column \d+ \(char (\d+)\))+$")
# A number that a float of 64 bits may change.
_INEXACT = re.compile(r"\d{16}|\d[.eE]")
_TRAILING = re.compile(r'"(?:[^"\\]|\\.)*+"|,(?=\s*[}\]])', re.S)
# Lines of an array with one object a line.
BRACKETS = ("[", "]", "],", "];")


def read(path: Path, reading: Reading) -> Iterator[FileRecord | Broken]:
    """As `reading.read`. A key that is no column is ignored; a missing one is None."""
    number = 0
    for line in lines(path, reading.encoding):
        if len(line.text) < 5 and line.text.strip() in ("", *BRACKETS):
            continue
        number += 1
        if line.too_long:
            detail = "the line is longer than a million characters"
            yield Broken(number, line.number, None, None, "json", detail)
            continue
        if (at := undecoded(line.text)) is not None:
            detail = f"bytes that are no {reading.encoding} text"
            yield Broken(number, line.number, at + 1, None, "encoding", detail)
            continue
        try:
            found = loads(line.text)
        except ValueError as error:
            place = _PLACE.search(str(error))
            detail = _PLACE.sub("", str(error))
            yield Broken(number, line.number, int(place[1]) + 1 if place else None, None, "json", detail)
            continue
        if not isinstance(found, dict):
            yield Broken(number, line.number, 1, None, "json", "not an object")
            continue
        yield FileRecord(number, line.number, tuple(found.get(name) for name in reading.columns))


def loads(line: str) -> Any:
    """The value of a line. Numbers with a fraction are text, digit for digit; NaN is null.

    Raises:
        ValueError: it is no JSON, and none of the usual slips.
    """
    try:
        if not _INEXACT.search(line):
            return orjson.loads(line)
        return _exact(line)
    except (ValueError, RecursionError) as error:
        return _mended(line, error)


def _exact(text: str) -> Any:
    # strict=False: line ends and tabs in texts are what somebody forgot to escape.
    return _encodable(json.loads(text, parse_float=str, parse_constant=lambda _: None, strict=False), text)


def _encodable(found: Any, text: str) -> Any:
    if "\\u" in text:
        json.dumps(found, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    return found


def _mended(line: str, error: Exception) -> Any:
    text = line.strip().lstrip("\ufeff").rstrip(",; ")
    if not text.startswith("{"):
        raise ValueError(str(error))
    text = _TRAILING.sub(lambda found: found[0] if found[0] != "," else "", text)
    try:
        return _exact(text)
    except (ValueError, RecursionError):
        pass
    try:
        found = _encodable(ast.literal_eval(text), text)  # as Python prints a dict
        return {str(key): value for key, value in found.items()}
    except Exception:
        raise ValueError(str(error)) from None
