"""The format of a table, in a CSV file or a sheet: where it begins, its delimiter and quotes, and whether its
first record names the columns.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from connectors.files.csv_records import raw_records
from connectors.files.lines import Line, lines
from connectors.files.mapping import plain
from connectors.files.questions import Findings
from connectors.files.records import ONE_COLUMN, Quoting
from connectors.files.times import is_clock, time_in

DELIMITERS = (",", ";", "\t", "|", "^", "~")
_SAMPLE = 200
_SAMPLE_CHARACTERS = 2_000_000
_TITLE_LINES = 20
_SEP = re.compile(r'^\ufeff?"?sep=([^"\ud800-\udfff])"?$', re.I)
_NUMBER = re.compile(r"[-+]?[\d\s\u00a0]*\d(?:[.,]\d+)?(?:[eE][-+]?\d+)?%?")
# What separates fields in files that are read by position, or by more than one character.
_UNUSUAL = re.compile(r" {2,}|\|\||::|¦|§|\t")
# Databases only write a backslash as two, and a null in this way.
_ESCAPED = re.compile(r"\\\\|\t\\N|\\N\t")
_MARKS = re.compile(r'[.!?,;:"«»]|\d')

Records = Sequence[tuple[int, list[str]]]


class Dialect(NamedTuple):
    """``records``: the first ones that are not broken, with their lines. ``width``: how many fields most of
    them have, ``share``, of all, 0 to 1. ``told``: how many usual names of columns one of the first has.
    """

    delimiter: str
    quoting: Quoting
    begin: int
    records: Records
    width: int
    share: float
    told: int


def dialect_of(
    path: Path, encoding: str, names: Collection[str], findings: Findings, chosen: str | None
) -> Dialect:
    """How the fields of a CSV file are separated: by the delimiter, ``chosen`` or not, that gives all records
    the same number of fields. `ONE_COLUMN` if there is none.

    ``names``: usual names of columns. If a first record has some of them, it decides.
    """
    sample, begin = _sample(path, encoding), 1
    if sample and (hint := _SEP.match(sample[0].text.rstrip("\r\n"))):
        begin, sample = 2, sample[1:]
        chosen = chosen or hint[1]
    if comments := _comments(sample, names):
        findings.warn("comments", count=comments, shown=repr(sample[0].text.strip()[:80]))
        begin, sample = sample[comments].number, sample[comments:]
    if chosen is not None:
        return _candidate(sample, chosen, begin, names)
    alone = _candidate(sample, ONE_COLUMN, begin, names)
    found = [_candidate(sample, delimiter, begin, names) for delimiter in DELIMITERS]
    found = [one for one in found if one.width > 1 and (one.share >= 0.8 or one.told >= 2)]
    found.sort(key=lambda one: one.share + 2 * min(one.told, 2), reverse=True)
    if not found or (alone.told and not any(one.told for one in found)):
        # One known name alone: the lines below may contain any character.
        return _alone(alone, found, findings)
    best = found[0]
    near = [one for one in found[1:] if one.told >= best.told and one.share >= 0.9 * best.share]
    if near or not (best.told or _certain(best)):
        choices = [one.delimiter for one in found]
        # Commas in sentences have a blank behind them.
        sentences = choices[0] == "," and all(", " in fields[0] for _, fields in alone.records)
        guess = "none" if sentences else _named(choices[0])
        named = [*map(_named, choices), "none"]
        answer = findings.ask("delimiter", named, guess, "delimiters", marks=" / ".join(map(repr, choices)))
        best = next((one for one in found if _named(one.delimiter) == answer), alone)
    text = "".join(line.text for line in sample)
    # A database writes each backslash as two.
    if best.quoting == "escaped" and re.search(r"\\[^N\n\t]", text) and r"\\" not in text:
        findings.warn("escapes")
    elif best.quoting != "escaped" and r"\\" in text:
        findings.warn("backslash pairs" if best.quoting == "backslash" else "backslashes")
    return best


def _comments(sample: list[Line], names: Collection[str]) -> int:
    """How many lines at the beginning are comments."""
    for at, line in enumerate(sample):
        fields = re.split(r"[,;\t|]", line.text)
        if (line.text[:1] != "#" and line.text[:2] not in ("//", "--")) or any(
            plain(one) in names for one in fields
        ):
            return at
    return 0


def _alone(alone: Dialect, others: list[Dialect], findings: Findings) -> Dialect:
    counts = Counter(len(_UNUSUAL.findall(fields[0])) for _, fields in alone.records)
    count, rows = counts.most_common(1)[0] if counts else (0, 0)
    if count and not others and rows >= 0.8 * counts.total() and counts.total() > 1:
        findings.ask("delimiter", ["none"], "none", "unusual delimiter")
    return alone


def _named(delimiter: str) -> str:
    return {"\t": "tab"}.get(delimiter, delimiter)


def _sample(path: Path, encoding: str) -> list[Line]:
    found, size = list[Line](), 0
    for line in islice(lines(path, encoding), _SAMPLE * 5):
        found.append(line)
        size += len(line.text)
        if size > _SAMPLE_CHARACTERS:
            break
    return found


def _candidate(sample: list[Line], delimiter: str, begin: int, names: Collection[str]) -> Dialect:
    text = "".join(line.text for line in sample)
    styles: list[Quoting] = ["doubled"]
    # As MySQL writes a line end in quotes.
    ends = any(line.text.rstrip("\r\n").endswith("\\") and line.text.count('"') % 2 for line in sample)
    if ends or '\\"' in text:
        styles.insert(0, "backslash")
    if re.search(rf'{re.escape(delimiter)} +"[^"\r\n]*"(?:{re.escape(delimiter)}|\s*$)', text, re.M):
        styles.insert(0, "spaced")
    if delimiter == "\t":
        first = _ESCAPED.search(text) or (re.search(r"\\[tnr]", text) and '""' not in text)
        styles.insert(0 if first else len(styles), "escaped")
    found = list[tuple[float, int, Dialect]]()
    for style in styles:
        rows = list(islice(raw_records(iter(sample), delimiter, None, style), _SAMPLE))
        records = [(taken[0].number, fields) for taken, fields in rows if isinstance(fields, list)]
        widths = Counter(len(fields) for _, fields in records)
        width, count = max(widths.items(), key=lambda item: (item[1], item[0])) if widths else (0, 0)
        share = count / len(records) if records else 0.0
        top = [fields for _, fields in records[:_TITLE_LINES] if len(fields) > 1 or width == 1]
        told = max((sum(plain(field) in names for field in fields) for fields in top), default=0)
        one = Dialect(delimiter, style, begin, records, width, share, told)
        found.append((count / max(1, len(rows)), len(records), one))
    # Of equal ones the first: lines that a quote joins by mistake make fewer records.
    return max(found, key=lambda rated: rated[:2])[2]


def _certain(one: Dialect) -> bool:
    """Whether a column holds values, as only a table has them: times or numbers, in each record."""
    rows = [fields for _, fields in one.records if len(fields) == one.width]
    if one.share == 1 and one.width > 2 and len(rows) > 2 and one.delimiter != ",":
        return True
    return any(_values(rows[1:] or rows, index) for index in range(one.width))


def table_in(
    records: Records, names: Collection[str], findings: Findings, header: bool | None
) -> tuple[int, bool, tuple[str, ...]]:
    """The line where the table begins, whether that names the columns, and their names, none if there are no
    records. ``header``: what the client says about it.
    """
    if not records:
        return 1, False, ()
    widths = [len(fields) for _, fields in records]
    width = max(set(widths), key=lambda one: (widths.count(one), one))
    at = _header(records, width, names) if header is not False else None
    if header and at is None:
        at = 0
    if at is None:
        first, others = records[0][1], [fields for _, fields in records[1:]]
        if header is None and _like_names(first, others, width):
            answer = findings.ask("header", ["yes", "no"], "yes", "header", shown=_quoted(first))
            at = 0 if answer == "yes" else None
        elif header is None:
            findings.warn("no header", shown=_quoted(first))
    if at is None:
        titles = next((at for at, (_, fields) in enumerate(records) if width == 1 or _filled(fields) > 1), 0)
        if header is None and titles:
            findings.warn("before rows", count=titles, shown=_lines(records[:titles]))
        line = records[titles][0] if header is None else records[0][0]
        return line, False, tuple(f"column{number}" for number in range(1, width + 1))
    if at:
        findings.warn("before header", count=at, shown=_lines(records[:at]))
    line, fields = records[at]
    found, known = unique_names(fields), dict[str, str]()
    for name, field in zip(found, fields, strict=True):
        if plain(field) in known:
            findings.warn("names twice", name=known[plain(field)], second=name)
            break
        known |= {plain(field): name} if plain(field) else {}
    return line, True, found


def _header(records: Records, width: int, names: Collection[str]) -> int | None:
    """The number of the record that names the columns. Before it are only titles."""
    best: int | None = None
    most = 1
    for at, (line, fields) in enumerate(records[:_TITLE_LINES]):
        if any(map(_is_value, fields)):
            if len(fields) == width:
                break  # a row: names are above it
            continue
        told = [field for field in fields if plain(field) in names]
        # A second line of names comes next; names once more are none.
        if best is not None and (len(told) < max(2, most) or fields == records[best][1]):
            break
        # One ordinary word beside long texts may be a value.
        alone = len(told) == 1 and any(" " in field.strip() for field in fields if field not in told)
        below_title = at == 0 or width > 1 or line > records[at - 1][0] + 1
        if told and not alone and below_title and (len(fields) == width or len(told) > 1):
            best, most = at, len(told)
    if best is not None:
        return best
    for at, (_, fields) in enumerate(records[:_TITLE_LINES]):
        if len(fields) == width and (width == 1 or _filled(fields) > 1):
            below = [other for _, other in records[at + 1 :] if len(other) == width]
            return at if (at == 0 or width > 1) and _above_values(fields, below) else None
    return None


def _filled(fields: Sequence[str]) -> int:
    return sum(bool(field.strip()) for field in fields)


def _above_values(first: Sequence[str], below: Sequence[Sequence[str]]) -> bool:
    """Whether ``first`` could be names, and a column below it holds values."""
    # pandas has no name for its index.
    named = first[not first[0] :]
    if not named or any(not field.strip() or _is_value(field) or len(field) > 64 for field in named):
        return False
    return len(set(first)) == len(first) and any(_values(below, index) for index in range(len(first)))


def _like_names(first: Sequence[str], others: Sequence[Sequence[str]], width: int) -> bool:
    """Whether it could be one: short, without marks, different from the rows below."""
    if len(first) != width or not others or any(not field.strip() or _is_value(field) for field in first):
        return False
    if any(len(field) > 40 or _MARKS.search(field) or len(field.split()) > 3 for field in first):
        return False
    below = [field for fields in others for field in fields]
    if set(first) & set(below) or len(set(first)) < len(first):
        return False
    return width > 1 or sum(map(len, below)) / len(below) > 1.5 * len(first[0])


def _values(rows: Sequence[Sequence[str]], index: int) -> bool:
    found = [row[index] for row in rows if index < len(row) and row[index].strip() and row[index] != r"\N"]
    return bool(found) and sum(map(_is_value, found)) >= 0.8 * len(found)


def _is_value(field: str) -> bool:
    """A number or a time, which is no name."""
    text = field.strip()
    if not text or len(text) > 64:
        return False
    return bool(_NUMBER.fullmatch(text)) or is_clock(text) or time_in(text, "day-month-year") is not None


def _quoted(fields: Sequence[str]) -> str:
    return repr(" | ".join(field for field in fields if field)[:80])


def _lines(records: Records) -> str:
    return "; ".join(_quoted(fields) for _, fields in records)[:300]


def unique_names(first: Iterable[str]) -> tuple[str, ...]:
    """Names for the columns, none empty and none twice."""
    found: dict[str, None] = {}
    for number, field in enumerate(first, 1):
        name = field.strip().strip("\ufeff").encode("utf-8", "replace").decode() or f"column{number}"
        base, again = name, 2
        while name in found:
            name, again = f"{base}_{again}", again + 1
        found[name] = None
    return tuple(found)
