"""What has been published already, by identity: a row under a label version, never an offset."""

from __future__ import annotations

from collections import deque
from hashlib import blake2b

from streams.codec import CREATED_AT, LABEL_VERSION
from streams.ports import Record

PAYLOAD_DIGEST = "payload-digest"
_RECENT = 100_000


class Memory:
    """The identities that one output partition holds, as 16-byte digests.

    What was learned from the tail is kept as long as the partition is owned; of what is published
    since, the newest 100,000, which is far more than the span that can be in flight.
    """

    def __init__(self) -> None:
        self._learned: set[bytes] = set()
        self._recent: set[bytes] = set()
        self._order: deque[bytes] = deque()

    def __contains__(self, identity: bytes) -> bool:
        return identity in self._learned or identity in self._recent

    def learn(self, identity: bytes) -> None:
        """From the tail of the output."""
        self._learned.add(identity)

    def add(self, identity: bytes) -> None:
        """Just published."""
        if identity not in self._recent:
            self._recent.add(identity)
            self._order.append(identity)
            if len(self._order) > _RECENT:
                self._recent.discard(self._order.popleft())


def row_identity(row_id: bytes, created_at: bytes, label_version: bytes) -> bytes:
    """A row under a label version, whether it was labelled or given up.

    With its time: a source whose ids begin anew has other rows under the same ids.
    """
    return _digest(b"row", row_id, created_at, label_version)


def bytes_identity(source: tuple[str, int, int], payload_digest: bytes) -> bytes:
    """A message that could not be read: where it stood, and what it held."""
    return _digest(b"bytes", f"{source[0]}/{source[1]}/{source[2]}".encode(), payload_digest)


def digest_of(payload: bytes | None) -> bytes:
    """16 hexadecimal digits for ``payload``."""
    return blake2b(payload or b"", digest_size=8).hexdigest().encode()


def published_identity(record: Record) -> bytes:
    """The identity of a message of an output topic."""
    return row_identity(
        record.key or b"", record.header(CREATED_AT) or b"", record.header(LABEL_VERSION) or b""
    )


def dead_letter_identity(record: Record, step: str) -> bytes | None:
    """The identity of a dead letter of ``step``; None for another step's."""
    if record.header("step") != step.encode():
        return None
    row_id = record.header("row-id")
    if row_id:
        return row_identity(row_id, record.header(CREATED_AT) or b"", record.header(LABEL_VERSION) or b"")
    try:
        source = (
            (record.header("topic") or b"").decode(),
            int(record.header("partition") or b"-1"),
            int(record.header("offset") or b"-1"),
        )
    except ValueError:
        return None
    return bytes_identity(source, record.header(PAYLOAD_DIGEST) or digest_of(record.value))


def _digest(*parts: bytes) -> bytes:
    return blake2b(
        b"\x00".join(part.replace(b"\x00", b"\x00\x01") for part in parts), digest_size=16
    ).digest()
