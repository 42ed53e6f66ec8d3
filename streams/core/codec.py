"""Encodes and decodes messages and their headers."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from typing import TypeVar

import orjson
from pydantic import ValidationError

from streams.core.context import TRACEPARENT, traceparent_of
from streams.core.errors import UndecodableError
from streams.core.messages import DeadLetter, Labeled, Message, Part, Row

M = TypeVar("M", bound=Message)
Headers = list[tuple[str, bytes]]

MESSAGE_TYPE = "message-type"
SCHEMA_VERSION = "schema-version"
SOURCE = "source"
LABEL_VERSION = "label-version"
CREATED_AT = "created-at"
RETRY_OF = "retry-of"  # names the dead letter that is retried
# On the replay topic: the replay's id (also passed on downstream), and the topic for the label.
REPLAY_JOB = "replay-job"
TO = "to"
# The search that found the row again after retention had taken a message about it unread, passed on
# downstream. Behind a slash the only step that is wanted again.
RECOVERED = "recovered"

_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_NAIVE_UTC


def encode(message: Message) -> bytes:
    """UTF-8 JSON of ``message``, times in RFC 3339 UTC."""
    # The same as model_dump, without its copy of everything.
    return orjson.dumps(message.__dict__, default=_fields, option=_OPTIONS)


def _fields(part: object) -> dict[str, object]:
    if isinstance(part, Part):
        return part.__dict__
    raise TypeError(f"no JSON for {type(part).__name__}")


def decode(kind: type[M], value: bytes | None) -> M:
    """The message in ``value``.

    Raises:
        UndecodableError: there is no value, it is not JSON, or it is no valid ``kind``; the text names the
            field.
    """
    if value is None:
        raise UndecodableError("the message has no value", reason="no-value")
    try:
        return kind.model_validate_json(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "value"
        reason = "undecodable" if first["type"] == "json_invalid" else "wrong-schema"
        raise UndecodableError(f"{where}: {first['msg']}", reason=reason) from error


def headers_of(
    message: Message, *, source: tuple[str, int, int] | None = None, trace: bytes | None = None
) -> Headers:
    """The headers of ``message``.

    ``source``: the topic, partition and offset that it was made from. ``trace``: the `traceparent` of that
    message; without one, the row's own.
    """
    headers = [*_class_headers(type(message))]
    if source is not None:
        headers.append((SOURCE, f"{source[0]}/{source[1]}/{source[2]}".encode()))
    if isinstance(message, Row):
        created_at = created_at_header(message)
        headers.append((CREATED_AT, created_at))
        headers.append((TRACEPARENT, trace or traceparent_of(message.row_id, created_at)))
    if isinstance(message, Labeled):
        headers.append((LABEL_VERSION, message.label_version.encode()))
    return headers


@lru_cache
def _class_headers(kind: type[Message]) -> tuple[tuple[str, bytes], ...]:
    return (MESSAGE_TYPE, kind.message_type.encode()), (SCHEMA_VERSION, kind.schema_version.encode())


def traceparent_for(row: Row) -> bytes:
    """The row's own `traceparent`."""
    return traceparent_of(row.row_id, created_at_header(row))


def created_at_header(row: Row) -> bytes:
    """Together with the key it distinguishes a row from a later one with the same id: source tables may reuse
    ids.
    """
    return row.created_at.isoformat().encode()


# The fields of a dead letter that are sent as headers; its payload is the message's value.
_DEAD_LETTER_HEADERS = (
    "row_id",
    "step",
    "reason",
    "error",
    "attempts",
    "failed_at",
    "topic",
    "partition",
    "offset",
)
_ERROR_BYTES = 4000


def encode_dead_letter(letter: DeadLetter) -> tuple[bytes, Headers]:
    """A dead letter's value (the received bytes, unchanged) and its headers."""
    headers: Headers = [(MESSAGE_TYPE, b"dead-letter"), (SCHEMA_VERSION, b"1.0")]
    for name in _DEAD_LETTER_HEADERS:
        value = getattr(letter, name)
        text = value.isoformat() if isinstance(value, datetime) else str(value)
        headers.append((name.replace("_", "-"), text.encode("utf-8", "replace")[:_ERROR_BYTES]))
    return letter.payload, headers


def decode_dead_letter(value: bytes | None, headers: Iterable[tuple[str, bytes]]) -> DeadLetter:
    """The dead letter in a message of the dead-letter topic.

    Raises:
        UndecodableError: a header is missing or has the wrong form.
    """
    fields: dict[str, object] = {
        name.replace("-", "_"): content.decode("utf-8", "replace") for name, content in headers
    }
    try:
        return DeadLetter.model_validate(
            {name: fields[name] for name in _DEAD_LETTER_HEADERS if name in fields}
            | {"payload": value or b""}
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise UndecodableError(f"dead-letter header {first['loc'][0]}: {first['msg']}") from error


PAYLOAD_DIGEST = "payload-digest"


def digest_of(payload: bytes | None) -> bytes:
    """16 hexadecimal digits for ``payload``."""
    return blake2b(payload or b"", digest_size=8).hexdigest().encode()
