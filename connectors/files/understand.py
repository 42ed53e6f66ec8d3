"""Detects what a file is: its format, how to read it, which column is what, and what is not certain."""

from __future__ import annotations

import codecs
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from connectors.files import archives, parquet_records, sheets
from connectors.files.dialect import dialect_of, table_in
from connectors.files.encoding import encoding_of, wide_of
from connectors.files.json_records import has_more, loads, named_twice, places_in, texts
from connectors.files.lines import LONGEST, opened, undecoded
from connectors.files.mapping import is_null, known_names, plain, suggested
from connectors.files.questions import Findings, Question
from connectors.files.reading import read
from connectors.files.records import FileRecord, Reading
from connectors.files.texts import refused
from connectors.files.times import ORDERS, Dates, is_clock, is_number, order_told, time_in
from streams.core.settings import Settings
from streams.ports.files import NO_FILE_OF_ROWS, Encoding, Text

_SAMPLE = 200
_MOST_COLUMNS = 1_000
# JSON, after comments.
_JSON = re.compile(
    r"""(?:\s|//.*\n|#.*\n|/\*(?s:.*?)\*/)*+(?:\{\s*(?:["'}“&]|[\w$]+\s*:|$)|\[\s*(?:[\[{\]"]|/[/*]|$))"""
)
# The beginning of an array with an object in the same line.
_LISTED = re.compile(r"\s*\[\s*\{")
_KEYED = re.compile(r'[{,]\s*"[^"]*"\s*:')
_FLOAT_ID = re.compile(r"\d[.,]?\d*[eE]\+?\d+")
# UTF-8 that was read in Windows-1251 or Windows-1252 and written again.
_MOJIBAKE = re.compile(
    "[РСÐÑ][\u0080-\u00bf\u0152-\u0192\u02c6-\u02dc\u0402-\u040f\u0452-\u045f\u2010-\u2122]"
)


@dataclass(frozen=True)
class Chosen:
    """What the client specifies, instead of detecting it. ``mapping``: column by part of a row."""

    encoding: Encoding | None = None
    delimiter: str | None = None
    header: bool | None = None
    mapping: Mapping[str, str | None] = field(default_factory=dict)
    answers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Understood:
    """``mapping``: part and column, as suggested. ``sample``: the first records."""

    reading: Reading
    mapping: dict[str, str]
    sample: list[FileRecord] = field(default_factory=list)
    warnings: list[Text | str] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)


def understand(path: Path, settings: Settings, chosen: Chosen | None = None) -> Understood:
    """Analyse the file's beginning, and a column of dates as a whole.

    Raises:
        RefusedError: reason `format`: not a file of rows (HTTP 415); `empty`, `parquet`: one without rows;
            `answers`: no answer to a question.
        OSError.
    """
    chosen = chosen or Chosen()
    findings = Findings(chosen.answers, quoting=settings.privacy == "off")
    reading = _reading(path, settings, chosen, findings)
    if not reading.columns:
        raise refused("no rows", reason="empty")
    if len(reading.columns) > _MOST_COLUMNS:
        raise refused("many columns", reason="columns", count=len(reading.columns))
    records = islice(read(path, reading), _SAMPLE)
    sample = [record for record in records if isinstance(record, FileRecord)]
    values = [record.values for record in sample]
    named = reading.format not in ("csv", "xlsx") or reading.header
    mapping = suggested(reading.columns, values, settings, findings, named=named, given=chosen.mapping)
    if (time := mapping.get("timestamp")) in reading.columns:
        reading = _dated(path, reading, str(time), values, findings)
    _look_at_values(reading, mapping, values, findings)
    findings.check()
    return Understood(reading, mapping, sample, findings.warnings, findings.questions)


def _reading(path: Path, settings: Settings, chosen: Chosen, findings: Findings) -> Reading:
    with path.open("rb") as file:
        start = file.read(4096)
    if not start.strip():
        raise refused("no rows", reason="empty")
    if start.startswith(b"PAR1"):
        usable, others = parquet_records.columns_of(path)
        if others and not usable:
            raise refused("no column readable", reason="parquet", names=str(others)[:300])
        if others:
            findings.warn("left out", names=str(others)[:300])
        return Reading(format="parquet", columns=tuple(usable))
    if start.startswith(archives.ZIP):
        return _workbook(path, settings, chosen, findings)
    if wide_of(start) is None:
        if what := archives.what_else(start.removeprefix(codecs.BOM_UTF8).lstrip()):
            raise refused(what, reason=NO_FILE_OF_ROWS)
        if sum(byte < 9 or 13 < byte < 32 for byte in start) > 0.02 * len(start):
            raise refused("no file of rows", reason=NO_FILE_OF_ROWS)
    encoding = chosen.encoding or encoding_of(path, findings)
    names = known_names(settings)
    if (document := _json(path, encoding, names, findings)) is not None:
        return document
    dialect = dialect_of(path, encoding, names, findings, chosen.delimiter)
    begin, header, columns = table_in(dialect.records, names, findings, chosen.header)
    return Reading(
        format="csv",
        encoding=encoding,
        delimiter=dialect.delimiter,
        quoting=dialect.quoting,
        # What is broken before the first record is told of.
        begin=dialect.begin if not columns or begin == dialect.records[0][0] else begin,
        header=header,
        columns=columns,
    )


def _workbook(path: Path, settings: Settings, chosen: Chosen, findings: Findings) -> Reading:
    found = sheets.sheets_of(path)
    if not found:
        raise refused("no rows", reason="empty")
    sheet = found[0]
    if len(found) > 1:
        sheet = findings.ask("sheet", found, sheet, "sheets")
    records = list(islice(sheets.rows_of(path, sheet), _SAMPLE))
    begin, header, columns = table_in(records, known_names(settings), findings, chosen.header)
    return Reading(format="xlsx", sheet=sheet, begin=begin, header=header, columns=columns)


def _object(text: str) -> dict[str, Any]:
    """Empty if it is none."""
    try:
        found = loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _json(path: Path, encoding: Encoding, names: Collection[str], findings: Findings) -> Reading | None:
    """None if it is not JSON.

    Raises:
        RefusedError: there are no objects in it.
    """
    first = [line.text for line in islice(texts(path, encoding, None), 50)]
    objects = [found for text in first if (found := _object(text))]
    place = None
    alone = objects[0] if len(first) == len(objects) == 1 else {}
    few = len(objects) * 2 < len(first) or any(map(_LISTED.match, first[:1]))
    if few and any(map(has_more, first[:1])) and sum(map(has_more, first)) * 4 >= len(first):
        return None  # a table or texts with JSON in them
    if few or any(isinstance(value, dict | list) for value in alone.values()):
        with opened(path, encoding) as file:
            if not _JSON.match(file.read(1000).lstrip("\ufeff")):
                return None
        places = places_in(path, encoding)
        if places and places[0] != "." and path.stat().st_size < LONGEST:
            # An object with a text may be a row that has a list.
            alone = next((_object(line.text) for line in texts(path, encoding, ".")), {})
            places += ["."] * any(plain(name) in names for name in alone)
        place = findings.ask("sheet", places, places[0], "lists") if len(places) > 1 else "".join(places)
    keys: dict[str, Any] = {}
    for line in texts(path, encoding, place):
        if undecoded(line.text) is None:
            keys |= dict.fromkeys(_object(line.text))
        if len(keys) > _MOST_COLUMNS:
            break
    some = (line.text for line in islice(texts(path, encoding, place), _SAMPLE))
    if name := next((name for text in some for name in named_twice(text)), None):
        findings.warn("keys twice", name=name)
    if place is not None and not keys:
        raise refused("no objects", reason=NO_FILE_OF_ROWS)
    return Reading(
        format="jsonl" if place is None else "json", encoding=encoding, columns=tuple(keys), sheet=place
    )


def _dated(
    path: Path, reading: Reading, time: str, sample: Sequence[tuple[Any, ...]], findings: Findings
) -> Reading:
    """``reading`` with how its dates are written."""
    at = reading.columns.index(time)
    values = [row[at] for row in sample if not is_null(row[at])]
    dates: Dates = "plain"
    allowed, matters, short = order_told(values)
    if matters and len(allowed) != 1:
        every = (one.values[at] for one in read(path, reading) if isinstance(one, FileRecord))
        allowed, matters, short = order_told(every)
    if matters:
        orders = [order for order in ORDERS if order in allowed]
        if len(orders) == 1:
            dates = orders[0]
        else:
            american = any(re.search(r"[ap]\.?m", str(value), re.I) for value in values)
            likely = sorted(orders or ORDERS[:2], key=lambda order: american and order != ORDERS[1])
            likely.sort(key=lambda order: not _past(values, order))
            code = "dates undecided" if orders else "dates contradict"
            answer = findings.ask("dates", likely, likely[0], code, name=time, value=values[0])
            dates = next(order for order in ORDERS if order == answer)
        if short and (example := next((one for one in values if time_in(one, dates)), None)):
            findings.warn("short years", name=time, value=example, time=time_in(example, dates))
    elif values and sum(is_number(one) and time_in(one) is None for one in values) > 0.5 * len(values):
        dates = "excel-days"
        if any(time_in(one, dates) for one in values):
            findings.warn("excel days", name=time)
    moments = [moment for one in values if (moment := time_in(one, dates))]
    if not moments or any(moment.hour or moment.minute or moment.second for moment in moments):
        return reading.model_copy(update={"dates": dates})
    clocks = [name for place, name in enumerate(reading.columns) if _are_clocks(sample, place)]
    clock = clocks[0] if len(clocks) == 1 else None
    if clocks:
        findings.warn("clock" if clock else "clocks", name=time, clock=clock, clocks=clocks)
    return reading.model_copy(update={"dates": dates, "clock": clock})


def _past(values: Sequence[Any], dates: Dates) -> bool:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    return all(found < tomorrow for value in values if (found := time_in(value, dates)))


def _are_clocks(sample: Sequence[tuple[Any, ...]], place: int) -> bool:
    values = [row[place] for row in sample if not is_null(row[place])]
    return bool(values) and sum(map(is_clock, values)) >= 0.9 * len(values)


def _look_at_values(
    reading: Reading, mapping: Mapping[str, str], sample: Sequence[tuple[Any, ...]], findings: Findings
) -> None:
    """Warn of values that other programs have damaged."""
    for role, name in mapping.items():
        if name not in reading.columns or role == "timestamp":
            continue
        place = reading.columns.index(name)
        if role != "text" and any(isinstance(row[place], dict | list) for row in sample):
            findings.warn("structures", name=name)
        values = [text for text in _texts(sample, place) if text]
        long = [text for text in values if len(text) > 15 and text.isdigit()]
        if role != "text" and (any(map(_FLOAT_ID.fullmatch, values)) or _rounded(long)):
            findings.warn("rounded", name=name)
        elif role not in ("text", "domain") and any(re.fullmatch(r"\d+[.,]0+", text) for text in values):
            findings.warn("fractions", name=name, value=values[0])
        elif role == "text" and values:
            if sum(bool(_KEYED.search(text)) for text in values) > 0.5 * len(values):
                findings.warn("JSON texts", value=values[0][:60])
            if sum(len(_MOJIBAKE.findall(text)) * 4 > len(text) for text in values) > 0.3 * len(values):
                findings.warn("mojibake", value=values[0][:60])
            if sum(text.count("?") * 2 > len(text) for text in values) > 0.3 * len(values):
                findings.warn("letters lost", value=values[0][:60])


def _rounded(numbers: Sequence[str]) -> bool:
    """Whether all end in zeros after the fifteen digits that a spreadsheet keeps."""
    return len(numbers) > 2 and not any(number[15:].strip("0") for number in numbers)


def _texts(sample: Sequence[tuple[Any, ...]], place: int) -> Iterator[str]:
    return (str(row[place]) for row in sample if not is_null(row[place]))
