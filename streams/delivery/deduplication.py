"""What is published already, by identity: a row under a label version, never an offset."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from hashlib import blake2b

from streams.core.codec import (
    CREATED_AT,
    LABEL_VERSION,
    MESSAGE_TYPE,
    PAYLOAD_DIGEST,
    RECOVERED,
    RETRY_OF,
    SOURCE,
    digest_of,
)
from streams.core.digests import Digests
from streams.core.messages import MESSAGES
from streams.core.records import Partition, Record

_RECENT = 25_000
_STEPS = {kind.message_type.encode(): kind.made_by.encode() for kind in MESSAGES}


class Identities:
    """A set of 16-byte digests.

    Digests that were learned from the tail are kept as long as the partition is owned. Of those that are
    added later, the newest 25,000 are kept: labels and variants of three inputs, each with at most 1,000
    messages in flight. Retried messages are few, and are kept like learned ones, because their copies may be
    far apart.
    """

    def __init__(self) -> None:
        self._learned = Digests()
        self._recent: set[bytes] = set()
        self._order: deque[bytes] = deque()

    def __contains__(self, identity: bytes) -> bool:
        return identity in self._recent or identity in self._learned

    def learn(self, identity: bytes) -> None:
        """One from the tail of the output."""
        self._learned.add(identity)

    def add(self, identity: bytes) -> None:
        """One that was just published."""
        if identity not in self._recent:
            self._recent.add(identity)
            self._order.append(identity)
            if len(self._order) > _RECENT:
                self._recent.discard(self._order.popleft())


class Memory:
    """What is done of the rows of one partition number: published, or dead-lettered."""

    def __init__(self) -> None:
        self.published = Identities()
        self.given_up = Identities()

    def __contains__(self, identity: bytes) -> bool:
        return identity in self.published or identity in self.given_up

    def learn(self, record: Record) -> None:
        """Read a message of an output topic, dead letters included."""
        step = record.header("step")
        if step is None:
            step = _STEPS.get(record.header(MESSAGE_TYPE) or b"", b"")
            for identity in _identities_in(step, record.key or b"", record):
                self.published.learn(identity)
            if retry_of := record.header(RETRY_OF):
                self.published.learn(retry_identity(step.decode(), retry_of))
            return
        if retry_of := record.header(RETRY_OF):
            self.given_up.learn(retry_identity(step.decode("utf-8", "replace"), retry_of))
        elif row_id := record.header("row-id"):
            for identity in _identities_in(step, row_id, record):
                self.given_up.learn(identity)
        else:
            self.given_up.learn(_bytes_identity_in(step, record))


def row_identity(
    step: str, row_id: bytes, created_at: bytes, label_version: bytes, recovered: bytes = b""
) -> bytes:
    """The identity of a row in a step under a label version.

    It includes the row's time, because a source may use its ids again for other rows. ``recovered``: the
    search that found the row again, because what was published of it is gone.
    """
    found = (recovered,) if recovered else ()
    return _digest(b"row", step.encode(), row_id, created_at, label_version, *found)


def recovered_by(record: Record) -> bytes:
    """The search that found the row of ``record`` again; empty if none did."""
    return (record.header(RECOVERED) or b"").partition(b"/")[0]


def wanted_again(record: Record, step: str) -> bool:
    """Whether the work of ``step`` on a row that was found again is wanted: of some all but the label is
    there."""
    only = (record.header(RECOVERED) or b"").partition(b"/")[2]
    return not only or only == step.encode()


def bytes_identity(step: bytes, source: tuple[str, int, int], payload_digest: bytes) -> bytes:
    """The identity of a message that a step could not read: its position and its content."""
    return _digest(b"bytes", step, f"{source[0]}/{source[1]}/{source[2]}".encode(), payload_digest)


def retry_identity(step: str, retry_of: bytes) -> bytes:
    """The identity of a step's dead letter that is retried, by its position in the dead-letter topic."""
    return _digest(b"retry", step.encode(), retry_of)


def _identities_in(step: bytes, row_id: bytes, record: Record) -> Iterator[bytes]:
    created_at, version = record.header(CREATED_AT) or b"", record.header(LABEL_VERSION) or b""
    yield _digest(b"row", step, row_id, created_at, version)
    if recovered := recovered_by(record):
        yield _digest(b"row", step, row_id, created_at, version, recovered)


def finished_by(record: Record) -> tuple[Partition, int] | None:
    """Partition and offset of the message that a step has finished with ``record``, a message of an output
    topic; None for dead letters of other parts.
    """
    step = record.header("step")
    return source_of(record) if step is None or step in _STEPS.values() else None


def source_of(record: Record) -> tuple[Partition, int] | None:
    """Partition and offset of the message that an output was made from, dead letters included."""
    whole = record.header(SOURCE)
    names = ("topic", "partition", "offset")
    parts = whole.rsplit(b"/", 2) if whole is not None else [record.header(name) or b"" for name in names]
    try:
        topic, partition, offset = parts
        return Partition(topic.decode(), int(partition)), int(offset)
    except ValueError:
        return None


def _bytes_identity_in(step: bytes, record: Record) -> bytes:
    source = source_of(record)
    if source is None:
        return b""
    (topic, partition), offset = source
    return bytes_identity(
        step, (topic, partition, offset), record.header(PAYLOAD_DIGEST) or digest_of(record.value)
    )


def _digest(*parts: bytes) -> bytes:
    return blake2b(
        b"\x00".join(part.replace(b"\x00", b"\x00\x01") for part in parts), digest_size=16
    ).digest()
