"""JSON: one object a line, or a document with a list of objects, with the slips that are common in them."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from connectors.files.lines import LONGEST, Line, lines, opened, undecoded
from connectors.files.records import Broken, FileRecord, Reading
from connectors.files.texts import refused, text
from streams.ports.files import NO_FILE_OF_ROWS

_CHUNK = 1 << 18
_SAMPLE = 2_000
_DEEPEST = 100
_PLACE = re.compile(r"(?:: line \d+ column \d+ \(char (\d+)\))+$")
# A number that a float of 64 bits may change.
_INEXACT = re.compile(r"\d{16}|\d[.eE]")
_STRING = r'"(?:[^"\\]|\\.)*+"'
# A comma before a bracket, a key without quotes, and no value, as JavaScript writes them.
_SLIP = re.compile(rf"{_STRING}|'(?:[^'\\]|\\.)*+'|,(?=\s*[}}\]])|([A-Za-z_$][\w$]*)(?=\s*:)|undefined", re.S)
# The last two: a quote that is not closed so far.
_TOKEN = re.compile(rf"{_STRING}|'(?:[^'\\\n]|\\.)*+'|[][{{}}]|\"|'(?=(?:[^'\\\n]|\\.)*+\\?\Z)", re.S)
# Lines of an array with one object a line.
BRACKETS = ("[", "]", "],", "];")
# More than what separates objects; and what is given instead of it.
_STRAY = re.compile(r"[^\s,;\ufeff]")
_OTHER = "..."
_DECODER = json.JSONDecoder()


def read(path: Path, reading: Reading) -> Iterator[FileRecord | Broken]:
    """As `reading.read`. A key that is no column is ignored; a missing one is None."""
    for number, line in enumerate(texts(path, reading.encoding, reading.sheet), 1):
        column, reason = None, "json"
        if line.too_long:
            detail = text("long line")
        elif (at := undecoded(line.text)) is not None:
            column, reason, detail = at + 1, "encoding", text("bytes", encoding=reading.encoding)
        elif reading.sheet and line.text == _OTHER:
            detail = text("stray")
        else:
            try:
                found = loads(line.text)
            except ValueError as error:
                place = _PLACE.search(str(error))
                column = int(place[1]) + 1 if place else None
                detail = text("no JSON", error=_PLACE.sub("", str(error)))
            else:
                if isinstance(found, dict):
                    values = tuple(found.get(name) for name in reading.columns)
                    yield FileRecord(number, line.number, values)
                    continue
                column, detail = 1, text("no object")
        yield Broken(number, line.number, None if reading.sheet else column, None, reason, detail)


def texts(path: Path, encoding: str, place: str | None) -> Iterator[Line]:
    """The text of each record: lines, or the objects at a place of a document."""
    if place is not None:
        yield from (line for _, line in _objects(path, encoding, wanted=place))
        return
    for line in lines(path, encoding):
        if len(line.text) > 4 or line.text.strip() not in ("", *BRACKETS):
            yield line


def places_in(path: Path, encoding: str) -> list[str]:
    """Where the rows of a document may be, as jq writes it, most likely first: the outermost lists of
    objects; or `.`, objects one after the other, or one that has no such list.
    """
    found = Counter(place for place, _ in islice(_objects(path, encoding, wanted=""), _SAMPLE))
    # A place that UTF-8 cannot encode could not be named.
    lists = [place for place, _ in found.most_common() if place.endswith("[]") and undecoded(place) is None]
    outer = [one for one in lists if not any(one != other and one.startswith(other) for other in lists)]
    # ClickHouse and pandas describe the columns beside the rows.
    outer = [one for one in outer if one not in (".meta[]", ".schema.fields[]")]
    return outer if outer and found["."] < 2 else ["."] * bool(found["."])


def _objects(path: Path, encoding: str, wanted: str) -> Iterator[tuple[str, Line]]:
    """The objects at the place ``wanted``, and ``_OTHER`` for what else is between them or outside of all
    brackets. With "", which is no place, the places of all objects, without a text.

    Raises:
        RefusedError: one is longer than a million characters, as after a quote that is never closed.
    """
    inside: list[tuple[str, bool]] = []  # of the open brackets: the place of what they hold, if it is a list
    held, at, key = "", 0, ""
    number, counted = 1, 0
    start: int | None = None
    stray = 0  # its line
    depth = 0
    with opened(path, encoding) as file:
        while True:
            token = _TOKEN.search(held, at)
            # Nothing but objects is expected here.
            among = start is None and (not inside or inside[-1] == (wanted, True))
            if among and not stray:
                end = len(held) if token is None else token.start() if token[0] in '{}[]"' else token.end()
                if other := _STRAY.search(held, at, end):
                    stray = number + held.count("\n", counted, other.start())
            if token is None or token[0] in "\"'":
                at = token.start() if token is not None else len(held)
                begin = at if start is None else start
                number, counted = number + held.count("\n", counted, begin), begin
                if len(held) - begin > LONGEST:
                    raise refused("long object", reason=NO_FILE_OF_ROWS, line=number)
                if not (more := file.read(_CHUNK)):
                    if token is None or token[0] == '"':
                        break
                    at += 1  # an apostrophe
                    continue
                held, at, counted = held[begin:] + more, at - begin, 0
                start = None if start is None else 0
                continue
            at, mark = token.end(), token[0]
            if mark in "{[":
                place, in_list = inside[-1] if inside else (".", True)
                place = place if in_list else f"{place.rstrip('.')}.{key}"
                if mark == "{" and not wanted:
                    yield place, Line(0, "")
                elif mark == "{" and start is None and place == wanted:
                    if stray:
                        yield wanted, Line(stray, _OTHER)
                    stray, start, depth = 0, token.start(), len(inside)
                elif among and wanted.startswith(f"{place}[") != (mark == "["):  # does not lead there
                    stray = stray or number + held.count("\n", counted, at)
                if len(inside) == _DEEPEST:
                    raise refused("deep JSON", reason=NO_FILE_OF_ROWS)
                inside.append((f"{place}[]", True) if mark == "[" else (place, False))
            elif mark in "}]":
                if inside:
                    _, in_list = inside.pop()
                    if start is None and in_list != (mark == "]"):
                        stray = stray or number + held.count("\n", counted, at)
                if start is not None and len(inside) == depth:
                    number, counted = number + held.count("\n", counted, start), start
                    yield wanted, Line(number, held[start:at])
                    start = None
            else:
                key = mark[1:-1]
    if start is None and not inside and at < len(held):  # a quote that is not closed
        stray = stray or number
    if stray:
        yield wanted, Line(stray, _OTHER)
    if inside or start is not None:
        yield wanted, Line(number, held[start:] if start is not None else "")


def has_more(line: str) -> bool:
    """Whether other text follows JSON in it, as in a table whose first column is JSON."""
    found, other = False, _STRAY.search(line)
    while other and other[0] in "{[":
        try:
            _, end = _DECODER.raw_decode(line, other.start())
        except (ValueError, RecursionError):
            return False
        found, other = True, _STRAY.search(line, end)
    return found and other is not None and other[0] not in "]}"


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


def named_twice(text: str) -> list[str]:
    """The names that an object in it has several times: the last value of each is read."""
    found: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        found.extend(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)

    with suppress(ValueError, RecursionError):
        json.loads(text, object_pairs_hook=look)
    return found


def _exact(text: str) -> Any:
    # strict=False: line ends and tabs in texts are what somebody forgot to escape.
    return _encodable(json.loads(text, parse_float=str, parse_constant=lambda _: None, strict=False), text)


def _encodable(found: Any, text: str) -> Any:
    if "\\u" in text:
        json.dumps(found, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    return found


def _mended(line: str, error: Exception) -> Any:
    text = line.strip().rstrip(",;] ")  # the array may end behind its last object
    if not text.startswith("{"):
        raise ValueError(str(error))
    text = _SLIP.sub(_without_slip, text)
    try:
        return _exact(text)
    except (ValueError, RecursionError):
        pass
    try:
        found = _encodable(ast.literal_eval(text), text)  # as Python prints a dict
        return {str(key): value for key, value in found.items()}
    except Exception:
        raise ValueError(str(error)) from None


def _without_slip(found: re.Match[str]) -> str:
    if found[0] in (",", "undefined"):
        return "" if found[0] == "," else "null"
    return f'"{found[1]}"' if found[1] else found[0]
