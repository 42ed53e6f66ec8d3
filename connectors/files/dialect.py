"""The format of a CSV file: its delimiter, and whether its first record names the columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from itertools import islice
from pathlib import Path

from connectors.files.csv_records import raw_records
from connectors.files.lines import lines
from connectors.files.mapping import plain
from connectors.files.records import ONE_COLUMN
from connectors.files.times import time_in

DELIMITERS = (",", ";", "\t", "|")
_SAMPLE = 200


def delimiter_of(path: Path, encoding: str, names: Collection[str]) -> str:
    """The delimiter that gives all records the same number of fields; `ONE_COLUMN` if there is none.

    ``names``: usual names of columns. If the first record has some of them, it decides.
    """
    best, best_score = ONE_COLUMN, 0.0
    for delimiter in DELIMITERS:
        rows = sample_of(path, encoding, delimiter)
        if not rows:
            continue
        widths = Counter(len(row) for row in rows)
        width, count = max(widths.items(), key=lambda item: (item[1], item[0]))
        share = count / len(rows)
        if width < 2:
            continue
        told = sum(plain(field) in names for field in rows[0])
        score = share + 2 * min(told, 2) if len(rows[0]) > 1 else share * 0.5
        if (share >= 0.8 or told >= 2) and score > best_score:
            best, best_score = delimiter, score
    rows = sample_of(path, encoding, ONE_COLUMN)
    if rows and len(rows[0]) == 1 and plain(rows[0][0]) in names:
        return ONE_COLUMN  # one known name alone: the lines below may contain any character
    return best


def sample_of(path: Path, encoding: str, delimiter: str) -> list[list[str]]:
    """The first records that are not broken."""
    records = islice(raw_records(lines(path, encoding), delimiter), _SAMPLE)
    return [fields for _, fields in records if isinstance(fields, list)]


def has_header(rows: Sequence[Sequence[str]], names: Collection[str]) -> bool:
    """Whether the first of ``rows`` names the columns."""
    if not rows:
        return False
    first, others = rows[0], [row for row in rows[1:] if len(row) == len(rows[0])]
    if any(plain(field) in names for field in first):
        return True
    if any(not field.strip() or _is_value(field) or len(field) > 64 for field in first):
        return False
    if len(set(first)) < len(first):
        return False
    # Names are above columns of values.
    return any(
        others and sum(_is_value(row[index]) for row in others) >= 0.8 * len(others)
        for index in range(len(first))
    )


def _is_value(field: str) -> bool:
    """A number or a time, which is no name."""
    text = field.strip()
    if not text:
        return False
    try:
        float(text.replace(",", "."))
    except ValueError:
        return time_in(text) is not None
    return True


def unique_names(first: Sequence[str]) -> tuple[str, ...]:
    """Names for the columns, none empty and none twice."""
    found: list[str] = []
    for number, field in enumerate(first, 1):
        name = field.strip().strip("\ufeff") or f"column{number}"
        base, again = name, 2
        while name in found:
            name, again = f"{base}_{again}", again + 1
        found.append(name)
    return tuple(found)
