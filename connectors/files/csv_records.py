"""CSV records one after the other; broken records are reported and skipped.

Python's csv module reads them. This module adds what it lacks: where a record begins, and how to continue
after a broken one. A quote that is never closed would consume the rest of the file. So a record that fails is
returned line by line: its first line is broken, and reading continues with the next one.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from connectors.files.lines import Line, lines, undecoded
from connectors.files.records import Broken, FileRecord, Quoting, Reading
from connectors.files.texts import text
from streams.ports.files import Text

# The lines of each record, and its fields or why it has none.
RawRecords = Iterator[tuple[list[Line], list[str] | Text]]

# A quoted field may contain line ends, but not a whole file.
_MOST_LINES = 1_000
_MOST_CHARACTERS = 1_000_000
_NULL = r"\N"  # as ClickHouse and MySQL write it
_OPEN = text("open quote")
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|.)", re.S)
_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "0": "", "a": "\a", "N": r"\N"}
# The second line of ClickHouse's formats `...WithNamesAndTypes`.
_TYPE = re.compile(
    r"(?:Nullable|LowCardinality|Array|Map|Tuple|String|FixedString|U?Int\d+|Float\d+|Bool|UUID|Decimal\d*|Enum\d+"
    r"|Date(?:Time)?(?:32|64)?)(?:\(.*\))?"
)
_RULE = re.compile(r"[-+=:| ]*[-=]{2}[-+=:| ]*")


# A backslash, and what it may escape as Spark and MySQL write it in quotes.
_BACKSLASH = re.compile(r'\\(["\\\r\n]?)')


class _EndlessError(Exception):
    pass


class _Source:
    """Passes lines to the csv reader, and takes them back."""

    def __init__(self, source: Iterator[Line], *, backslash: bool) -> None:
        self._source = source
        self._backslash = backslash
        self._back: deque[Line] = deque()
        self.taken: list[Line] = []
        self._size = 0

    def __iter__(self) -> _Source:
        return self

    def __next__(self) -> str:
        line = self._back.popleft() if self._back else next(self._source)
        self.taken.append(line)
        self._size += len(line.text)
        if len(self.taken) > 1 and (len(self.taken) > _MOST_LINES or self._size > _MOST_CHARACTERS):
            raise _EndlessError
        if not self._backslash:
            return line.text
        return _BACKSLASH.sub(lambda found: found[0] if found[1] else r"\\", line.text)

    def begin(self) -> None:
        self.taken = []
        self._size = 0

    def only_first(self) -> list[Line]:
        """The first line that was passed; the others are taken back."""
        self._back.extendleft(reversed(self.taken[1:]))
        return self.taken[:1]


def raw_records(
    source: Iterator[Line], delimiter: str, width: int | None = None, quoting: Quoting = "doubled"
) -> RawRecords:
    """The records. Blank lines are omitted.

    Every other line occurs once: in a record, or alone with a reason. A record of several lines that does not
    have ``width`` fields is assumed to begin with a quote by mistake.
    """
    if quoting == "escaped":
        yield from _escaped(source, delimiter)
        return
    backslash = quoting == "backslash"
    given = _Source(source, backslash=backslash)
    csv.field_size_limit(_MOST_CHARACTERS)
    reader = csv.reader(
        given,
        delimiter=delimiter,
        strict=True,
        skipinitialspace=quoting == "spaced",
        escapechar="\\" if backslash else None,
    )
    while True:
        given.begin()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except _EndlessError:
            yield given.only_first(), _OPEN
            continue
        except csv.Error as error:
            unclosed = len(given.taken) > 1 or "end of data" in str(error)
            yield given.only_first(), _OPEN if unclosed else text("bad quotes", error=error)
            continue
        if given.taken[0].too_long:
            yield given.only_first(), text("long line")
        elif len(given.taken) > 1 and (
            (width is not None and len(fields) != width) or any(line.too_long for line in given.taken)
        ):
            yield given.only_first(), _OPEN
        elif fields:
            yield given.taken, fields


def _escaped(source: Iterator[Line], delimiter: str) -> RawRecords:
    taken: list[Line] = []
    for line in source:
        taken.append(line)
        bare = line.text.rstrip("\r\n")
        if (len(bare) - len(bare.rstrip("\\"))) % 2 and len(taken) < _MOST_LINES and not line.too_long:
            continue  # the line end belongs to the value, as MySQL writes it
        whole = "".join(one.text for one in taken).rstrip("\r\n")
        if line.too_long:
            yield taken, text("long line")
        elif whole and whole != r"\.":
            if "\\" + delimiter in whole:  # as MySQL writes it in a value
                whole = _ESCAPE.sub(lambda found: r"\t" if found[1] == "\t" else found[0], whole)
            fields = whole.split(delimiter)
            yield taken, [_unescaped(field) if "\\" in field else field for field in fields]
        taken = []
    if taken:
        yield taken, text("last backslash")


def _unescaped(field: str) -> str:
    if field == _NULL:
        return field
    return _ESCAPE.sub(
        lambda found: chr(int(found[1][1:], 16)) if found[1][1:] else _ESCAPES.get(found[1], found[1]), field
    )


def read(path: Path, reading: Reading) -> Iterator[FileRecord | Broken]:
    """As `reading.read`."""
    source = lines(path, reading.encoding, reading.begin)
    return checked(raw_records(source, reading.delimiter, len(reading.columns), reading.quoting), reading)


def checked(records: RawRecords, reading: Reading) -> Iterator[FileRecord | Broken]:
    """The records that have the columns, and what else is in a table."""
    width = len(reading.columns)
    names = next(records, ([], []))[1] if reading.header else None
    for number, (taken, fields) in enumerate(records, 1):
        line, column, field, reason = taken[0], None, None, "columns"
        if isinstance(fields, dict):
            reason, detail = "quote", fields
            starts = reversed(_starts(line.text, reading.delimiter))
            column = next((start for start in starts if line.text[start - 1 : start] == '"'), None)
        elif len(fields) < width:
            column, field = len(line.text.rstrip("\r\n")) + 1, reading.columns[len(fields)]
            detail = text("fields", found=len(fields), wanted=width)
        elif any(fields[width:]):
            column = next(iter(_starts(line.text, reading.delimiter)[width:]), None)
            detail = text("fields", found=len(fields), wanted=width)
        elif fields == names:
            detail = text("names again")
        elif number == 1 and all(map(_TYPE.fullmatch, fields)):
            detail = text("types")
        elif line.text[:1] in "-+|=:" and _RULE.fullmatch(line.text.strip()):
            detail = text("dashes")
        elif wrong := next((one for one in taken if undecoded(one.text) is not None), None):
            line, column, reason = wrong, (undecoded(wrong.text) or 0) + 1, "encoding"
            detail = text("bytes", encoding=reading.encoding)
        else:
            values: tuple[str | None, ...] = tuple(fields[:width])
            if _NULL in fields:
                values = tuple(None if value == _NULL else value for value in values)
            yield FileRecord(number, line.number, values)
            continue
        yield Broken(number, line.number, column, field, reason, detail)


def _starts(line: str, delimiter: str) -> list[int]:
    """The characters, from 1, where the fields of a line begin."""
    found, quoted = [1], False
    for at, character in enumerate(line):
        if quoted:
            quoted = character != '"'
        elif character == '"' and (at == found[-1] - 1 or line[at - 1] == '"'):
            quoted = True
        elif character == delimiter:
            found.append(at + 2)
    return found
