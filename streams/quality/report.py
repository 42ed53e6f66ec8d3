"""What is told of a version's quality, from its judged rows: for the command, the API and the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np

from streams.quality.coverage import coverage
from streams.quality.estimates import Interval, Judged, Sample, rows_missing, share
from streams.quality.label_scores import LabelFigures, confusion, label_scores, macro_f1
from streams.quality.reliability import reliability

By = Literal["week", "domain", "length"]
WANTED = 0.95
HALF_WIDTH = 0.02

# Upper ends of the classes of length, in characters.
_LENGTHS = (20, 50, 100, 200)


@dataclass(frozen=True)
class GoldLine:
    """A row that was judged: ``gold`` is right (None: no label fits); ``given``: None without a label of the
    version. ``probability``: with which the row was drawn; None if it is not known to have been drawn at
    random.
    ``created_at``, ``domain``, ``length`` (characters): for groups, as far as they are known.
    """

    gold: str | None
    given: str | None
    confidence: float | None = None
    probability: float | None = None
    created_at: datetime | None = None
    domain: str | None = None
    length: int | None = None


def report(lines: Sequence[GoldLine], *, wanted: float = WANTED, by: By | None = None) -> dict[str, Any]:
    """Figures of ``lines``, ready for JSON. ``wanted``: the accuracy whose least confidence is looked for.

    Where rows were drawn at random, all figures but the confusions are theirs alone, each row weighted by its
    probability. Where none was, they are of all rows, and ``biased`` says so.
    """
    used, biased = _used(lines)
    sample = _sample(used)
    right = share(sample.right, sample.weight)
    f1 = macro_f1(sample)
    calibration = reliability(sample)
    covered = coverage(sample, wanted)
    found: dict[str, Any] = {
        "gold": len(lines),
        "drawn": sum(one.probability is not None for one in lines),
        "labeled": sum(one.given is not None for one in lines),
        "right": sum(one.given is not None and one.given == one.gold for one in lines),
        "biased": biased,
        **_accuracy(right),
        "more": rows_missing(right, len(sample), HALF_WIDTH),
        "macro_f1": f1.value,
        "macro_f1_low": f1.low,
        "macro_f1_high": f1.high,
        "ece": calibration.ece,
        "ece_low": calibration.ece_low,
        "ece_high": calibration.ece_high,
        "brier": calibration.brier,
        "reliability": [one._asdict() for one in calibration.bins],
        "wanted": wanted,
        "least": None if covered.least is None else covered.least._asdict(),
        "coverage": [one._asdict() for one in covered.curve],
        "labels": [_label(one) for one in label_scores(sample)],
        "confusion": confusion(_sample(lines)),
    }
    if by is not None:
        found["by"] = by
        found["groups"] = [
            {"name": name, **summary(some, biased)} for name, some in _grouped(lines, by).items()
        ]
    return found


def _used(lines: Sequence[GoldLine]) -> tuple[Sequence[GoldLine], bool]:
    """The lines that the figures are of, and whether these are biased."""
    drawn = [one for one in lines if one.probability is not None]
    return (drawn, False) if drawn else (lines, bool(lines))


def _sample(lines: Iterable[GoldLine]) -> Sample:
    return Sample.of(
        Judged(one.gold, one.given, 1 / (one.probability or 1.0), one.confidence)
        for one in lines
        if one.given is not None
    )


def _accuracy(found: Interval) -> dict[str, float | None]:
    bounds = (found.low, found.high) if found.value is not None else (None, None)
    return {"accuracy": found.value, "accuracy_low": bounds[0], "accuracy_high": bounds[1]}


def summary(lines: Sequence[GoldLine], biased: bool) -> dict[str, Any]:
    """Numbers of rows, and the accuracy. ``biased``: of all rows, else of those that were drawn at random."""
    used = lines if biased else [one for one in lines if one.probability is not None]
    sample = _sample(used)
    found = share(sample.right, sample.weight)
    return {
        "gold": len(lines),
        "drawn": sum(one.probability is not None for one in lines),
        "labeled": sum(one.given is not None for one in lines),
        **_accuracy(found),
        "more": rows_missing(found, len(sample), HALF_WIDTH),
    }


def _label(one: LabelFigures) -> dict[str, Any]:
    told: dict[str, Any] = {
        "label": one.label,
        "support": one.support,
        "given": one.given,
        "right": one.right,
        "f1": one.f1,
    }
    for name, found in (("precision", one.precision), ("recall", one.recall)):
        told[name] = found.value
        told[f"{name}_low"], told[f"{name}_high"] = (
            (None, None) if found.value is None else (found.low, found.high)
        )
    return told


def _grouped(lines: Sequence[GoldLine], by: By) -> dict[str, list[GoldLine]]:
    """By name, in order of time, name or length; lines of which that is not known are `unknown`, the last."""
    found: dict[tuple[int, str], list[GoldLine]] = {}
    for one in lines:
        found.setdefault(_name(one, by), []).append(one)
    return {name: found[order, name] for order, name in sorted(found)}


def _name(one: GoldLine, by: By) -> tuple[int, str]:
    if by == "week" and one.created_at is not None:
        monday = one.created_at.date() - timedelta(days=one.created_at.weekday())
        return 0, monday.isoformat()
    if by == "domain" and one.domain:
        return 0, one.domain
    if by == "length" and one.length is not None:
        place = int(np.searchsorted(_LENGTHS, one.length))
        low = _LENGTHS[place - 1] + 1 if place else 1
        return place, f"{low}-{_LENGTHS[place]}" if place < len(_LENGTHS) else f"{low}+"
    return len(_LENGTHS) + 1, "unknown"
