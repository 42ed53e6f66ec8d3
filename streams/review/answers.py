"""What is published or stored of an answer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError

from streams.core.errors import RefusedError
from streams.core.label_version import HUMAN, UNDONE
from streams.core.messages import HumanLabel, Labeled
from streams.core.times import micros_of
from streams.ports.review import DrawnBy, ReviewAnswer
from streams.privacy.erasure import ErasureList

_MICROSECOND = timedelta(microseconds=1)


def label_of(
    was: Labeled, person: str, label: str, queue: DrawnBy | None, probability: float | None
) -> HumanLabel:
    """A person's label of the row whose label ``was`` another. ``probability``: with which it was drawn.

    Raises:
        RefusedError: the stored row is none that can be published, such as one without a text.
    """
    return _message(was, f"{HUMAN}:{person}", label, queue, probability, after=was.labeled_at)


def taken_back(was: Labeled, said: HumanLabel, person: str, queue: DrawnBy, other: str | None) -> HumanLabel:
    """Takes ``said`` back: the row has the label that ``other`` people gave it, or else the former one."""
    label = was.label if other is None else other
    message = _message(
        was, f"{HUMAN}:{person}{UNDONE}", label, queue, said.draw_probability, after=said.labeled_at
    )
    if other is not None:
        return message
    # Not the generation of its fit: it is that of a version, and this message is of another.
    former = ("confidence", "confidence_raw", "alternatives", "decided_by", "proxy_generation")
    return message.model_copy(update={name: getattr(was, name) for name in former})


def answer_of(
    was: Labeled,
    person: str,
    answer: str,
    queue: DrawnBy | None,
    probability: float | None,
    *,
    after: datetime,
) -> ReviewAnswer:
    """A person's answer without a label, later than ``after``."""
    return ReviewAnswer(
        row_id=was.row_id,
        created_at=was.created_at,
        text=was.text,
        source_domain=was.source_domain,
        answer=answer,
        who=person,
        answered_at=_later(after),
        drawn_by=queue,
        draw_probability=probability,
    )


def is_erased(row: Labeled, erased: ErasureList) -> bool:
    """Whether ``erased`` covers the row, which is as it is stored."""
    return erased.covers(row.row_id, row.user_id, micros_of(row.created_at))


def _message(
    was: Labeled, model: str, label: str, queue: DrawnBy | None, probability: float | None, *, after: datetime
) -> HumanLabel:
    said: dict[str, Any] = {
        "label": label,
        "confidence": None,
        "confidence_raw": None,
        "calibration": None,
        "alternatives": [],
        "label_version": HUMAN,
        "model": model,
        "labeled_at": _later(after),
        "cached": False,
        "decided_by": "human",
        "proxy_generation": None,
        "drawn_by": queue,
        "draw_probability": probability,
    }
    try:
        return HumanLabel.model_validate(was.__dict__ | said)
    except ValidationError as error:  # other tools wrote the row
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RefusedError(
            f"the row cannot be published: {where}: {first['msg']}", reason="no-row"
        ) from error


def _later(after: datetime) -> datetime:
    """A time after that of the answer before, because the last one counts."""
    return max(datetime.now(UTC), after + _MICROSECOND)
