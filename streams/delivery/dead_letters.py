"""Makes the agents' dead letters: the received bytes, with everything that is known in headers."""

from __future__ import annotations

from datetime import UTC, datetime

from streams.core.codec import (
    CREATED_AT,
    LABEL_VERSION,
    PAYLOAD_DIGEST,
    RECOVERED,
    REPLAY_JOB,
    RETRY_OF,
    TO,
    created_at_header,
    digest_of,
    encode_dead_letter,
)
from streams.core.context import TRACEPARENT
from streams.core.messages import DeadLetter, Row
from streams.core.outcomes import Reject
from streams.core.records import Outgoing, Record


def dead_letter(
    record: Record,
    reject: Reject,
    step: str,
    message: Row | None,
    version: str | None,
    *,
    topic: str,
    whole: bool,
    retry_of: bytes | None = None,
    trace: bytes | None = None,
) -> Outgoing:
    """The dead letter of ``record``. ``message``, its label ``version`` and its ``trace``, if they could be
    read.

    With ``whole=False`` the bytes are omitted: the origin says where they are.
    """
    letter = DeadLetter(
        row_id=message.row_id if message else "",
        step=step,
        reason=reject.reason,
        error=reject.error,
        attempts=reject.attempts,
        failed_at=datetime.now(UTC),
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        payload=(record.value or b"") if whole else b"",
    )
    payload, headers = encode_dead_letter(letter)
    headers.append((PAYLOAD_DIGEST, digest_of(record.value)))
    if message is not None:
        headers.append((CREATED_AT, created_at_header(message)))
        headers.append((LABEL_VERSION, (version or "").encode()))
    if trace is not None:
        headers.append((TRACEPARENT, trace))
    # A retry has the same target: version, replay and output topic.
    headers += [
        (name, value) for name in (REPLAY_JOB, TO, RECOVERED) if (value := record.header(name)) is not None
    ]
    if retry_of is not None:
        headers.append((RETRY_OF, retry_of))
    return Outgoing(topic, record.partition, record.key or b"", payload, headers)
