"""The API's answers. Fields and their descriptions are those of the messages."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from streams.core.messages import Alternative, Augmented, DeadLetter, Labeled, RejectedVariant
from streams.ports.lookups import RowHistory

_MOST_PAYLOAD = 20_000

EXAMPLE_LABEL: dict[str, Any] = {
    "label": "payments",
    "confidence": 0.93,
    "alternatives": [{"label": "refunds", "confidence": 0.05}],
    "label_version": "mistral.1f2e3d4c",
    "model": "mistral",
    "labeled_at": "2026-01-31T09:30:02.120000Z",
    "cached": False,
}
EXAMPLE_ROW: dict[str, Any] = {
    "row_id": "42",
    "text": "не проходит оплата картой",
    "created_at": "2026-01-31T09:30:00Z",
    "user_id": "u17",
    "session_id": None,
    "source_domain": None,
    "polled_at": "2026-01-31T09:30:01.500000Z",
}


def _same(kind: type[BaseModel], name: str) -> Any:
    """The description of the message's field."""
    return Field(description=kind.model_fields[name].description)


class LabelOfRow(BaseModel):
    """A label of a row under one version."""

    label: str = _same(Labeled, "label")
    confidence: float | None = _same(Labeled, "confidence")
    alternatives: list[Alternative] = _same(Labeled, "alternatives")
    label_version: str = _same(Labeled, "label_version")
    model: str = _same(Labeled, "model")
    labeled_at: datetime = _same(Labeled, "labeled_at")
    cached: bool = _same(Labeled, "cached")
    current: bool = Field(description="Whether it is the row's current label.")


class VariantsOfRow(BaseModel):
    """The variants of a row with one label version."""

    variants: list[str] = _same(Augmented, "variants")
    rejected: list[RejectedVariant] = _same(Augmented, "rejected")
    label_version: str = _same(Labeled, "label_version")
    augment_model: str = _same(Augmented, "augment_model")
    augmented_at: datetime = _same(Augmented, "augmented_at")


class LetterOfRow(BaseModel):
    """A dead letter."""

    step: str = _same(DeadLetter, "step")
    reason: str = _same(DeadLetter, "reason")
    error: str = _same(DeadLetter, "error")
    attempts: int = _same(DeadLetter, "attempts")
    failed_at: datetime = _same(DeadLetter, "failed_at")
    topic: str = _same(DeadLetter, "topic")
    partition: int = _same(DeadLetter, "partition")
    offset: int = _same(DeadLetter, "offset")
    payload: str | None = Field(
        description=f"The first {_MOST_PAYLOAD} of the received bytes as text; null where they are none."
    )
    payload_base64: str | None = Field(description="The same in base64, where they are no UTF-8.")
    payload_bytes: int = Field(description="How many bytes were received.")


class RowWay(BaseModel):
    """All about a row. A field is null if it never became known: the row was given up before it had a
    label.
    """

    row_id: str
    text: str | None = _same(Labeled, "text")
    created_at: datetime | None = _same(Labeled, "created_at")
    user_id: str | None = _same(Labeled, "user_id")
    session_id: str | None = _same(Labeled, "session_id")
    source_domain: str | None = _same(Labeled, "source_domain")
    polled_at: datetime | None = _same(Labeled, "polled_at")
    labels: list[LabelOfRow] = Field(description="Of every version, the newest first.")
    variants: list[VariantsOfRow] = Field(description="The newest first.")


class RowAnswer(RowWay):
    """The newest row of an id, and older rows with that id."""

    dead_letters: list[LetterOfRow] = Field(description="The newest 50 with this id, the newest first.")
    namesakes: list[RowWay] = Field(description="Older rows with the same id and another time.")

    model_config = {
        "json_schema_extra": {
            "examples": [
                EXAMPLE_ROW
                | {
                    "labels": [EXAMPLE_LABEL | {"current": True}],
                    "variants": [
                        {
                            "variants": ["оплата картой не работает"],
                            "rejected": [{"text": "оплата", "reason": "too-short"}],
                            "label_version": "mistral.1f2e3d4c",
                            "augment_model": "qwen",
                            "augmented_at": "2026-01-31T09:30:04Z",
                        }
                    ],
                    "dead_letters": [],
                    "namesakes": [],
                }
            ]
        }
    }


class LabelsAnswer(BaseModel):
    """A page of labels."""

    labels: list[Labeled] = Field(description="The newest rows first.")
    next: str | None = Field(
        description="The `cursor` of the next page; null at the end. A page may be short and have a next one."
    )

    model_config = {
        "json_schema_extra": {
            "examples": [{"labels": [EXAMPLE_ROW | EXAMPLE_LABEL], "next": "1769851800000000.3432"}]
        }
    }


def row_answer(row_id: str, found: RowHistory) -> RowAnswer:
    """The history as the API returns it."""
    times = sorted({one.created_at for one in (*found.labels, *found.variants)}, reverse=True)
    ways = [_way(row_id, found, at) for at in times] or [
        RowWay(row_id=row_id, **dict.fromkeys(_LEARNED), labels=[], variants=[])
    ]
    return RowAnswer(
        **ways[0].model_dump(), dead_letters=[_letter(one) for one in found.dead_letters], namesakes=ways[1:]
    )


_LEARNED = ("text", "created_at", "user_id", "session_id", "source_domain", "polled_at")


def _way(row_id: str, found: RowHistory, at: datetime) -> RowWay:
    labels = [one for one in found.labels if one.created_at == at]
    variants = [one for one in found.variants if one.created_at == at]
    row: Labeled = (*labels, *variants)[0]
    return RowWay(
        row_id=row_id,
        **_fields(row, _LEARNED),
        labels=[
            LabelOfRow(
                **_fields(one, LabelOfRow.model_fields),
                current=(one.created_at, one.label_version) in found.current,
            )
            for one in labels
        ],
        variants=[VariantsOfRow(**_fields(one, VariantsOfRow.model_fields)) for one in variants],
    )


def _letter(letter: DeadLetter) -> LetterOfRow:
    shown = letter.payload[:_MOST_PAYLOAD]
    text, encoded = None, None
    try:
        text = letter.payload.decode()[:_MOST_PAYLOAD]
    except UnicodeDecodeError:
        encoded = base64.b64encode(shown).decode()
    return LetterOfRow(
        **_fields(letter, LetterOfRow.model_fields),
        payload=text,
        payload_base64=encoded,
        payload_bytes=len(letter.payload),
    )


def _fields(message: BaseModel, names: Iterable[str]) -> dict[str, Any]:
    have = type(message).model_fields
    return {name: getattr(message, name) for name in names if name in have and name != "payload"}
