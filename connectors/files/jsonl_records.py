"""JSON lines: one object a line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import orjson

from connectors.files.lines import lines, undecoded
from connectors.files.records import Broken, FileRecord, Reading

_PLACE = re.compile(r": line \d+ column (\d+) \(char \d+\)$")


def read(path: Path, reading: Reading) -> Iterator[FileRecord | Broken]:
    """As `reading.read`. A key that is no column is ignored; a missing one is None."""
    number = 0
    for line in lines(path, reading.encoding):
        if not line.text.strip():
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
            found = orjson.loads(line.text)
        except orjson.JSONDecodeError as error:
            place = _PLACE.search(str(error))
            detail = _PLACE.sub("", str(error))
            yield Broken(number, line.number, int(place[1]) if place else None, None, "json", detail)
            continue
        if not isinstance(found, dict):
            yield Broken(number, line.number, 1, None, "json", "not an object")
            continue
        yield FileRecord(number, line.number, tuple(found.get(name) for name in reading.columns))
