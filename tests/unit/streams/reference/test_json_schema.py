"""The JSON Schemas of messages and headers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator, ValidationError

from streams.core.codec import PAYLOAD_DIGEST, encode, encode_dead_letter, headers_of
from streams.core.messages import Alternative, Augmented, DeadLetter, Labeled, Message, RejectedVariant, Row
from streams.core.records import TOPIC_ID
from streams.reference.json_schema import headers_schema, json_schemas

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
ROW = Row(row_id="7", text="где мой заказ", created_at=NOW, polled_at=NOW)
LABELED = Labeled(
    **ROW.model_dump(),
    label="delivery",
    confidence=0.9,
    alternatives=[Alternative(label="refund", confidence=0.1)],
    label_version="v1",
    model="m",
    labeled_at=NOW,
)
AUGMENTED = Augmented(
    **LABELED.model_dump(),
    variants=["когда приедет заказ"],
    rejected=[RejectedVariant(text="где мой заказ", reason="copy")],
    augment_model="m",
    augmented_at=NOW,
)
DIALECT_CHECKED = Draft202012Validator.FORMAT_CHECKER


def as_text(headers: list[tuple[str, bytes]]) -> dict[str, str]:
    return {name: content.decode() for name, content in headers}


@pytest.mark.parametrize("message", [ROW, LABELED, AUGMENTED], ids=lambda message: message.message_type)
def test_what_is_published_satisfies_its_schema(message: Message) -> None:
    schema = json_schemas()[message.message_type]
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema, format_checker=DIALECT_CHECKED).validate(orjson.loads(encode(message)))
    source = None if message.message_type == "row" else ("esk.rows", 3, 17)
    headers = headers_schema(message.message_type)
    Draft202012Validator.check_schema(headers)
    Draft202012Validator(headers).validate(as_text(headers_of(message, source=source)))


@pytest.mark.parametrize(
    "change",
    [{"row_id": ""}, {"label": None}, {"confidence": 1.5}, {"alternatives": [{"label": "x"}]}],
    ids=lambda change: next(iter(change)),
)
def test_the_schema_refuses_what_is_never_published(change: dict[str, Any]) -> None:
    value = orjson.loads(encode(LABELED)) | change
    with pytest.raises(ValidationError):
        Draft202012Validator(json_schemas()["labeled"]).validate(value)


def test_a_newer_writer_s_field_is_accepted() -> None:
    value = orjson.loads(encode(LABELED)) | {"added_later": 1}
    Draft202012Validator(json_schemas()["labeled"]).validate(value)


def test_a_dead_letter_s_headers_satisfy_their_schema() -> None:
    schema = headers_schema("dead-letter")
    Draft202012Validator.check_schema(schema)
    letter = DeadLetter(
        step="label", reason="refused", failed_at=NOW, topic="esk.rows", partition=1, offset=2
    )
    headers = as_text(encode_dead_letter(letter)[1])
    Draft202012Validator(schema).validate(headers)
    del headers["step"]
    with pytest.raises(ValidationError):
        Draft202012Validator(schema).validate(headers)
    assert {PAYLOAD_DIGEST, TOPIC_ID} <= set(schema["properties"])
