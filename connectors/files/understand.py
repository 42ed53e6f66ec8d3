"""Detects what a file is: its format, how to read it, which column is what, and what is not certain."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from connectors.files import archives, parquet_records, sheets
from connectors.files.dialect import dialect_of, table_in
from connectors.files.encoding import encoding_of, wide_of
from connectors.files.jsonl_records import BRACKETS, loads
from connectors.files.lines import lines, undecoded
from connectors.files.mapping import is_null, is_number, known_names, suggested
from connectors.files.questions import Findings, Question
from connectors.files.reading import read
from connectors.files.records import FileRecord, Reading
from connectors.files.times import ORDERS, Dates, is_clock, order_told, time_in
from streams.core.errors import RefusedError
from streams.core.settings import Settings
from streams.ports.files import NO_FILE_OF_ROWS, Encoding

_SAMPLE = 200
_KEYS_FROM = 1_000
_MOST_COLUMNS = 1_000
_JSON = re.compile(r"""\s*(?:\{\s*(?:["'}]|$)|\[\s*(?:[\[{\]"]|$))""")
_FLOAT_ID = re.compile(r"\d[.,]?\d*[eE]\+?\d+")
# UTF-8 that was read in Windows-1251 and written again.
_MOJIBAKE = re.compile("[РС][\u0080-\u00bf\u0402-\u040f\u0452-\u045f\u2010-\u2122]")


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
    warnings: list[str] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)


def understand(path: Path, settings: Settings, chosen: Chosen | None = None) -> Understood:
    """Analyse the file's beginning, and a column of dates as a whole.

    Raises:
        RefusedError: reason `format`: not a file of rows (HTTP 415); `empty`, `parquet`: one without rows;
            `answers`: no answer to a question.
        OSError.
    """
    chosen = chosen or Chosen()
    findings = Findings(chosen.answers)
    reading = _reading(path, settings, chosen, findings)
    if not reading.columns:
        raise RefusedError("the file holds no rows", reason="empty")
    if len(reading.columns) > _MOST_COLUMNS:
        raise RefusedError(f"{len(reading.columns)} columns are too many", reason="columns")
    records = islice(read(path, reading), _SAMPLE)
    sample = [record for record in records if isinstance(record, FileRecord)]
    values = [record.values for record in sample]
    if reading.format == "jsonl":
        _check_objects(values)
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
        raise RefusedError("the file is empty", reason="empty")
    if start.startswith(b"PAR1"):
        usable, others = parquet_records.columns_of(path)
        if others and not usable:
            raise RefusedError(f"no column can be read: {others}"[:300], reason="parquet")
        if others:
            findings.warn(f"Left out are columns that hold structures or are damaged: {others}"[:300])
        return Reading(format="parquet", columns=tuple(usable))
    if start.startswith(archives.ZIP):
        return _workbook(path, settings, chosen, findings)
    if wide_of(start) is None:
        if what := archives.what_else(start.removeprefix(codecs.BOM_UTF8).lstrip()):
            raise RefusedError(f"this is {what}", reason=NO_FILE_OF_ROWS)
        if sum(byte < 9 or 13 < byte < 32 for byte in start) > 0.02 * len(start):
            raise RefusedError("this is no text and no Parquet file", reason=NO_FILE_OF_ROWS)
    encoding = chosen.encoding or encoding_of(path, findings)
    first = [line.text for line in islice(lines(path, encoding), 50) if line.text.strip()]
    rows = [text for text in first if text.strip() not in BRACKETS]
    if rows and sum(_object(text) is not None for text in rows) * 2 >= len(rows):
        return _jsonl(path, encoding)
    if first and _JSON.match(first[0].lstrip("\ufeff")):
        raise RefusedError(
            "this is JSON, and not JSON lines: write one whole object a line, as `jq -c '.[]'` does",
            reason=NO_FILE_OF_ROWS,
        )
    names = known_names(settings)
    dialect = dialect_of(path, encoding, names, findings, chosen.delimiter)
    reading = Reading(
        format="csv",
        encoding=encoding,
        delimiter=dialect.delimiter,
        quoting=dialect.quoting,
        begin=dialect.begin,
    )
    if not dialect.records:
        return reading
    begin, header, columns = table_in(dialect.records, names, findings, chosen.header)
    begin = begin if begin != dialect.records[0][0] else reading.begin
    return reading.model_copy(update={"begin": begin, "header": header, "columns": columns})


def _workbook(path: Path, settings: Settings, chosen: Chosen, findings: Findings) -> Reading:
    found = sheets.sheets_of(path)
    if not found:
        raise RefusedError("the workbook holds no rows", reason="empty")
    sheet = found[0]
    if len(found) > 1:
        sheet = findings.ask("sheet", "Several sheets hold something. Which has the rows?", found, sheet)
    records = list(islice(sheets.rows_of(path, sheet), _SAMPLE))
    if not records:
        raise RefusedError("the sheet holds no rows", reason="empty")
    begin, header, columns = table_in(records, known_names(settings), findings, chosen.header)
    return Reading(format="xlsx", sheet=sheet, begin=begin, header=header, columns=columns)


def _object(text: str) -> dict[str, Any] | None:
    try:
        found = loads(text.lstrip("\ufeff"))
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _jsonl(path: Path, encoding: Encoding) -> Reading:
    keys: dict[str, Any] = {}
    for line in islice(lines(path, encoding), _KEYS_FROM):
        if undecoded(line.text) is None:
            keys |= dict.fromkeys(_object(line.text) or ())
    return Reading(format="jsonl", encoding=encoding, columns=tuple(keys))


def _check_objects(sample: Sequence[tuple[Any, ...]]) -> None:
    """Raises:
    RefusedError: the file is one object with the rows in it.
    """
    if len(sample) == 1 and any(
        isinstance(value, list) and value and isinstance(value[0], dict | list) for value in sample[0]
    ):
        raise RefusedError(
            "this is one JSON object with rows in it: write one object a line, as `jq -c '.data[]'` does",
            reason=NO_FILE_OF_ROWS,
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
            why = "no value decides it" if orders else "the values contradict each other"
            american = any(re.search(r"[ap]\.?m", str(value), re.I) for value in values)
            likely = sorted(orders or ORDERS[:2], key=lambda order: american and order != ORDERS[1])
            likely.sort(key=lambda order: not _past(values, order))
            answer = findings.ask(
                "dates",
                f"In which order are day and month in {time!r}, as in {values[:1]}? In all of it {why}.",
                likely,
                likely[0],
            )
            dates = next(order for order in ORDERS if order == answer)
        if short:
            example = next(
                (f"{one} as {found:%Y-%m-%d}" for one in values if (found := time_in(one, dates))), ""
            )
            findings.warn(f"The years in {time!r} have two digits: {example}.")
    elif values and sum(is_number(one) and time_in(one) is None for one in values) > 0.5 * len(values):
        dates = "excel-days"
        if any(time_in(one, dates) for one in values):
            findings.warn(f"The numbers in {time!r} are read as Excel's days since 1900.")
    moments = [moment for one in values if (moment := time_in(one, dates))]
    if not moments or any(moment.hour or moment.minute or moment.second for moment in moments):
        return reading.model_copy(update={"dates": dates})
    clocks = [name for place, name in enumerate(reading.columns) if _are_clocks(sample, place)]
    clock = clocks[0] if len(clocks) == 1 else None
    if clocks:
        findings.warn(
            f"The day is in {time!r}, and the time of day is "
            + (f"taken from {clock!r}." if clock else f"in one of {clocks}: it is left out.")
        )
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
        values = [text for text in _texts(sample, reading.columns.index(name)) if text]
        long = [text for text in values if len(text) > 15 and text.isdigit()]
        if role != "text" and (any(map(_FLOAT_ID.fullmatch, values)) or _rounded(long)):
            findings.warn(f"{name!r} holds numbers that a spreadsheet has rounded: digits of them are lost.")
        elif role not in ("text", "domain") and any(re.fullmatch(r"\d+[.,]0", text) for text in values):
            findings.warn(f"{name!r} holds whole numbers that are written as fractions: {values[0]!r}.")
        elif role == "text" and values:
            if sum(len(_MOJIBAKE.findall(text)) * 4 > len(text) for text in values) > 0.3 * len(values):
                findings.warn(f"The texts were read in a wrong encoding before: {values[0][:60]!r}.")
            if sum(text.count("?") * 2 > len(text) for text in values) > 0.3 * len(values):
                findings.warn(f"The letters of the texts were lost before: {values[0][:60]!r}.")


def _rounded(numbers: Sequence[str]) -> bool:
    """Whether all end in zeros after the fifteen digits that a spreadsheet keeps."""
    return len(numbers) > 2 and not any(number[15:].strip("0") for number in numbers)


def _texts(sample: Sequence[tuple[Any, ...]], place: int) -> Iterator[str]:
    return (str(row[place]) for row in sample if not is_null(row[place]))
