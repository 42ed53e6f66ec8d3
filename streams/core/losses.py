"""Messages that a topic lost before a group had read them, recorded on the cursor topic: retention removed
them, or the log lost its end (a leader was elected that lacks it, or the topic was restored from a copy).

The reader of the topic writes ``lost/<id>`` before it commits a position after them. The poller finds their
rows in the source table again, and then writes ``lost/<id>/closed``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streams.core.codec import CREATED_AT
from streams.core.records import Outgoing, Record, known_in
from streams.core.times import micros_of

_KEY = "lost/"
_CLOSED = "/closed"
_REACHED = "reached"  # in a commit's metadata


class Loss(BaseModel):
    """Messages from offset ``start`` to before ``end`` of one incarnation of a topic, all gone. ``group`` had
    not read them; markers of other producers' transactions may be among these offsets. If the log lost its
    end, the group had read these, and what came after them nobody knows.

    ``since``: the row's time, microseconds since 1970, of the last message that the group had read before
    them; None if it is unknown.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    group: str
    topic: str
    topic_id: str
    partition: int
    start: int
    end: int
    since: int | None = None
    found_at: datetime = Field(default_factory=lambda: datetime.now(UTC))

    @property
    def id(self) -> str:
        """The same for every reader that finds it, also if it grows later."""
        return f"{self.group}/{self.topic}/{self.topic_id}/{self.partition}/{self.start}"

    @property
    def messages(self) -> int:
        """The number of messages, at most."""
        return self.end - self.start

    def message(self, cursor: str) -> Outgoing:
        """The record for the topic ``cursor``."""
        return Outgoing(cursor, 0, f"{_KEY}{self.id}".encode(), orjson.dumps(self.model_dump()))

    def closed_message(self, cursor: str) -> Outgoing:
        """The record that its rows were looked for."""
        value = orjson.dumps({"end": self.end})
        return Outgoing(cursor, 0, f"{_KEY}{self.id}{_CLOSED}".encode(), value)


class Losses:
    """The losses that the cursor topic has recorded so far."""

    def __init__(self) -> None:
        self._known: dict[str, Loss] = {}
        self._closed: dict[str, int] = {}

    def learn(self, record: Record) -> None:
        """Read a message of the topic, in order; other messages are ignored."""
        key = (record.key or b"").decode("utf-8", "replace")
        if not key.startswith(_KEY):
            return
        name = key.removeprefix(_KEY)
        try:
            if name.endswith(_CLOSED):
                self._closed[name.removesuffix(_CLOSED)] = int(orjson.loads(record.value or b"")["end"])
            else:
                self._known[name] = Loss.model_validate_json(record.value or b"")
        except (ValidationError, ValueError, KeyError, TypeError):
            return

    def close(self, loss: Loss) -> None:
        """Its rows were looked for; the note is on its way."""
        self._closed[loss.id] = max(loss.end, self._closed.get(loss.id, -1))

    @property
    def all(self) -> list[Loss]:
        """All, newest first."""
        return sorted(self._known.values(), key=lambda loss: loss.found_at, reverse=True)

    @property
    def open(self) -> list[Loss]:
        """Losses whose rows were not looked for yet, newest first."""
        return [loss for loss in self.all if self._is_open(loss)]

    def _is_open(self, loss: Loss) -> bool:
        return self._closed.get(loss.id, -1) < loss.end

    def by_reader(self) -> list[dict[str, Any]]:
        """For reports: of each topic and group, how many messages were lost (`messages`), and of how many the
        rows were not looked for yet (`open`).
        """
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for loss in sorted(self._known.values(), key=lambda loss: (loss.topic, loss.group)):
            one = found.setdefault(
                (loss.topic, loss.group), {"topic": loss.topic, "group": loss.group, "messages": 0, "open": 0}
            )
            one["messages"] += loss.messages
            one["open"] += loss.messages if self._is_open(loss) else 0
        return list(found.values())

    def as_dict(self, loss: Loss) -> dict[str, Any]:
        """For reports."""
        return {
            **loss.model_dump(mode="json"),
            "messages": loss.messages,
            "state": "open" if self._is_open(loss) else "closed",
        }


def time_of(record: Record) -> int | None:
    """The time of a message's row from its headers; microseconds since 1970. For a row that is dated in the
    future, the time when it was published.
    """
    try:
        created_at = micros_of(datetime.fromisoformat((record.header(CREATED_AT) or b"").decode()))
    except (ValueError, TypeError, OverflowError):
        return None
    return min(created_at, record.timestamp * 1000) if record.timestamp > 0 else created_at


def reached_in(metadata: str) -> int | None:
    """The time of the last row before a commit, from its metadata; None if it is missing."""
    found = known_in(metadata).get(_REACHED)
    return found if isinstance(found, int) else None


def with_reached(metadata: dict[str, Any], micros: int | None) -> dict[str, Any]:
    """The metadata of a commit, with the time of the last row before it."""
    return metadata if micros is None else {**metadata, _REACHED: micros}
