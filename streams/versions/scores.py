"""Compares labels with a gold set: accuracy, precision and recall of each label, and confusions."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from streams.core.errors import ConfigurationError


@dataclass(frozen=True)
class GoldRow:
    """A row and its right label. ``created_at``: None if the file does not have it; then the id alone
    identifies the row.
    """

    row_id: str
    label: str
    created_at: datetime | None


@dataclass(frozen=True)
class LabelScore:
    """``support``: gold rows with the label; ``given``: rows that got it; ``right``: both. A ratio with a
    zero divisor is None.
    """

    label: str
    support: int
    given: int
    right: int

    @property
    def precision(self) -> float | None:
        """The share of rows with this label that are right."""
        return self.right / self.given if self.given else None

    @property
    def recall(self) -> float | None:
        """The share of rows that should have this label and have it."""
        return self.right / self.support if self.support else None

    @property
    def f1(self) -> float | None:
        """The harmonic mean of both; 0 if no row is right."""
        both = self.support + self.given
        return 2 * self.right / both if both else None


@dataclass(frozen=True)
class Scores:
    """``gold``: rows of the gold set; ``labeled``: those with a label to compare; ``right``: those with the
    same label. ``confusion``: right label -> given label -> rows.
    """

    gold: int
    labeled: int
    right: int
    labels: Sequence[LabelScore]
    confusion: Mapping[str, Mapping[str, int]]

    @property
    def accuracy(self) -> float | None:
        """The share of the labelled rows that is right; None if there are none."""
        return self.right / self.labeled if self.labeled else None

    @property
    def macro_f1(self) -> float | None:
        """The mean F1 of the labels in the gold set."""
        found = [one.f1 for one in self.labels if one.support and one.f1 is not None]
        return sum(found) / len(found) if found else None


def scores(pairs: Iterable[tuple[str, str | None]]) -> Scores:
    """From pairs of the right label and the given one, None without a given one."""
    gold = 0
    confusion: dict[str, Counter[str]] = {}
    for right, given in pairs:
        gold += 1
        if given is not None:
            confusion.setdefault(right, Counter())[given] += 1
    given_counts: Counter[str] = Counter()
    for row in confusion.values():
        given_counts.update(row)
    names = sorted({*confusion, *given_counts})
    labels = [
        LabelScore(
            name,
            sum(confusion.get(name, Counter()).values()),
            given_counts[name],
            confusion.get(name, Counter())[name],
        )
        for name in names
    ]
    return Scores(gold, given_counts.total(), sum(one.right for one in labels), labels, confusion)


def read_gold(path: Path) -> list[GoldRow]:
    """The rows of a gold set: CSV with a header, or JSON lines, as `GET /review/gold` returns them.

    The columns `row_id` and `label` are required; `created_at` distinguishes rows with one id.

    Raises:
        ConfigurationError: no such file, missing columns, or an invalid line, by its number.
    """
    rows: list[GoldRow] = []
    try:
        for one in _records(path):
            at = one.get("created_at")
            rows.append(GoldRow(str(one["row_id"]), str(one["label"]), _moment(at) if at else None))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}", fix="name the file") from error
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise ConfigurationError(
            f"{path}, row {len(rows) + 1}: {error}",
            fix="it needs the columns row_id and label, and times as 2026-01-31T00:00:00Z",
        ) from error
    if not rows:
        raise ConfigurationError(f"{path} holds no rows", fix="label some rows on the page first")
    return rows


def _records(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        if path.suffix.lower() in (".jsonl", ".ndjson"):
            for line in file:
                if line.strip():
                    found = orjson.loads(line)
                    if not isinstance(found, dict):
                        raise ValueError("the line is no JSON object")
                    yield found
        else:
            yield from csv.DictReader(file)


def _moment(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError(f"{text} has no zone")
    return found.astimezone(UTC)
