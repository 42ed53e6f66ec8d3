"""The contract with subscribers: a JSON Schema for each message's value and for its headers.

Made from `streams/core/messages.py`. Within a major version fields are only added: schemas under
`docs/contract/released` stay valid.
"""

from __future__ import annotations

import re
from datetime import datetime
from inspect import cleandoc
from typing import Any

from streams.core.codec import (
    CREATED_AT,
    LABEL_VERSION,
    MESSAGE_TYPE,
    PAYLOAD_DIGEST,
    RECOVERED,
    REPLAY_JOB,
    SCHEMA_VERSION,
    SOURCE,
    TO,
    encode_dead_letter,
)
from streams.core.context import TRACEPARENT
from streams.core.messages import MESSAGES, DeadLetter, HumanLabel, Labeled, Row

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schemas() -> dict[str, dict[str, Any]]:
    """A JSON Schema 2020-12 document for each message's value, by message type.

    Fields without a default are required. labelstream writes the others too; as they are not required, a
    newer schema accepts older messages that a topic still holds.
    """
    return {kind.message_type: _schema_of(kind) for kind in MESSAGES}


# The labels of people are among the others, with more fields.
_WIDEST: dict[type[Row], type[Row]] = {Labeled: HumanLabel}


def headers_schema(message_type: str) -> dict[str, Any]:
    """A JSON Schema 2020-12 document for the headers of ``message_type``, each header's bytes as text.

    Raises:
        KeyError: there is no such message type.
    """
    if message_type == "dead-letter":
        properties, required = _dead_letter_headers()
        version = "1.0"
    else:
        kind = {kind.message_type: kind for kind in MESSAGES}[message_type]
        version = kind.schema_version
        properties, required = {}, []
        properties[SOURCE] = _text(
            "The message that it was made from: topic/partition/offset.", pattern=r"^[^/]+/\d+/\d+$"
        )
        properties[CREATED_AT] = _text("The row's time, as in the value.", format="date-time")
        required = [CREATED_AT]
        if issubclass(kind, Labeled):
            properties[LABEL_VERSION] = _text("The label version, as in the value.", minLength=1)
            required = [SOURCE, CREATED_AT, LABEL_VERSION]
        else:
            properties[LABEL_VERSION] = _text(
                "On the replay topic: the version to label it under; without it, that of live rows.",
                minLength=1,
            )
            properties[TO] = _text(
                "On the replay topic: where the label goes, labeled or shadow.", enum=["labeled", "shadow"]
            )
        properties[TRACEPARENT] = _trace()
        properties[REPLAY_JOB] = _text("The replay or backfill that it comes from, if it does.", minLength=1)
        properties[RECOVERED] = _text(
            "The search that found the row again, if a message about it was deleted unread.", minLength=1
        )
    fixed = {
        MESSAGE_TYPE: _text("The kind of message.", const=message_type),
        SCHEMA_VERSION: _text(
            "Version of the schema, major.minor.", pattern=rf"^{version.split('.')[0]}\.\d+$"
        ),
    }
    return {
        "$schema": DIALECT,
        "$id": f"urn:labelstream:headers:{message_type}:{version}",
        "title": f"Headers of {message_type}",
        "type": "object",
        "properties": fixed | properties,
        "required": [*fixed, *required],
    }


def _schema_of(kind: type[Row]) -> dict[str, Any]:
    widest = _WIDEST.get(kind, kind)
    made = widest.model_json_schema(mode="serialization")
    made |= {"title": kind.__name__, "description": _plain(cleandoc(kind.__doc__ or ""))}
    for nested in made.get("$defs", {}).values():
        nested["description"] = _plain(nested.get("description", ""))
    for field in _fields_in(made):
        field.pop("title", None)
        field.pop("default", None)
    return {
        "$schema": DIALECT,
        "$id": f"urn:labelstream:message:{kind.message_type}:{widest.schema_version}",
        "x-schema-version": widest.schema_version,
    } | made


def _fields_in(schema: dict[str, Any]) -> list[dict[str, Any]]:
    parts = [schema, *schema.get("$defs", {}).values()]
    return [field for part in parts for field in part["properties"].values()]


def _dead_letter_headers() -> tuple[dict[str, Any], list[str]]:
    # The encoder knows which fields are headers, so ask it instead of listing them again.
    some = DeadLetter(
        step="label", reason="example", failed_at=datetime.fromisoformat("2026-01-31T00:00:00Z")
    )
    written = [name for name, _ in encode_dead_letter(some)[1] if name not in (MESSAGE_TYPE, SCHEMA_VERSION)]
    properties: dict[str, Any] = {}
    for name in written:
        field = DeadLetter.model_fields[name.replace("-", "_")]
        limits: dict[str, str] = {}
        if field.annotation is int:
            limits = {"pattern": r"^-?\d+$"}
        elif field.annotation is datetime:
            limits = {"format": "date-time"}
        properties[name] = _text(field.description or "", **limits)
    properties[CREATED_AT] = _text("The row's time, where the message could be read.", format="date-time")
    properties[LABEL_VERSION] = _text("The label version under which it was worked on.")
    properties[PAYLOAD_DIGEST] = _text("Digest of the received bytes.", pattern="^[0-9a-f]{16}$")
    properties[TRACEPARENT] = _trace()
    properties["topic-id"] = _text("The incarnation of the origin's topic, where the sink gave it up.")
    return properties, written


def _trace() -> dict[str, Any]:
    return _text(
        "W3C trace context: one trace id a row, made of its identity and so the same however often it is "
        "retried or replayed; in log lines it is `trace_id`. Where traces are exported, a retry and a replay "
        "have their own.",
        pattern="^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
    )


def _text(description: str, **limits: Any) -> dict[str, Any]:
    return {"type": "string", "description": description, **limits}


def _plain(docstring: str) -> str:
    return re.sub(r"``(.*?)``", r"`\1`", " ".join(docstring.split()))
