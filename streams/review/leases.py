"""Leases and decisions of reviewers, in the order of the review topic.

Several processes serve reviewers. Each writes the requests of its reviewers to one compacted partition and
reads all of it. The first request for a row has the row, and every process comes to the same result without
asking another one. See docs/internals/adr/0008-review-queue.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import orjson

from streams.core.records import Outgoing, Record
from streams.core.topics import Topics
from streams.ports.lookups import Place

JOB = b"review"  # header of human labels: they are no live rows, and have no latency

LEASE_SECONDS = 600.0
# Clocks of two machines differ; a lease is not used in its last so many seconds.
MARGIN_SECONDS = 60.0
_MOST_SETTLED = 300_000

What = Literal["label", "skip", "release", "undo"]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def row_key(place: Place) -> str:
    """The key of a row: its time in microseconds, and its id in hexadecimal."""
    micros = (place.created_at - _EPOCH) // timedelta(microseconds=1)
    return f"{micros}.{place.row_id.encode('utf-8', 'replace').hex()}"


@dataclass(frozen=True)
class ReviewLease:
    """``owner`` (a reviewer's desk) has the row until ``until`` (seconds since 1970)."""

    owner: str
    until: float


def lease_message(topics: Topics, place: Place, owner: str) -> Outgoing:
    """Requests a row, or more time for it."""
    value = orjson.dumps({"owner": owner, "seconds": LEASE_SECONDS})
    return Outgoing(topics.review, 0, f"lease/{row_key(place)}".encode(), value)


def decision_message(topics: Topics, place: Place, owner: str, what: What, label: str = "") -> Outgoing:
    """Records the decision about a row."""
    value = orjson.dumps({"owner": owner, "what": what, "label": label})
    return Outgoing(topics.review, 0, f"done/{row_key(place)}".encode(), value)


class Reviews:
    """The content of the review topic so far. Rows are identified by `row_key`."""

    def __init__(self) -> None:
        self.leases: dict[str, ReviewLease] = {}
        self.settled: dict[str, str] = {}  # row -> label, until the tables have it
        self.skipped: dict[str, set[str]] = {}
        self.seen = -1

    def learn(self, record: Record) -> None:
        """Read a message of the topic, in order; messages that were read before are ignored."""
        if record.offset == 0 and self.seen > 0:
            self.__init__()  # type: ignore[misc]  # the topic was made anew, or is read again
        if record.offset <= self.seen:
            return
        self.seen = record.offset
        kind, _, row = (record.key or b"").decode("utf-8", "replace").partition("/")
        try:
            told: dict[str, Any] = orjson.loads(record.value or b"")
            owner = str(told["owner"])
            at = record.timestamp / 1000
            if kind == "lease":
                self._lease(row, owner, at, float(told["seconds"]))
            elif kind == "done":
                self._done(row, owner, at, told)
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            return  # of another program

    def _lease(self, row: str, owner: str, at: float, seconds: float) -> None:
        held = self.leases.get(row)
        if row in self.settled or (held is not None and held.owner != owner and held.until > at):
            return
        self.leases[row] = ReviewLease(owner, at + seconds)

    def _done(self, row: str, owner: str, at: float, told: dict[str, Any]) -> None:
        what = told["what"]
        if what == "undo":
            self.settled.pop(row, None)
            self.leases[row] = ReviewLease(owner, at + LEASE_SECONDS)
            return
        held = self.leases.get(row)
        if held is None or held.owner == owner:
            self.leases.pop(row, None)
        if what == "label":
            self.settled[row] = str(told["label"])
            if len(self.settled) > _MOST_SETTLED:
                self.settled.pop(next(iter(self.settled)))
        elif what == "skip":
            self.skipped.setdefault(row, set()).add(owner)

    def free(self, row: str, owner: str, now: float) -> bool:
        """Whether ``owner`` may request ``row``."""
        held = self.leases.get(row)
        if row in self.settled or owner in self.skipped.get(row, ()):
            return False
        return held is None or held.owner == owner or held.until <= now

    def holds(self, row: str, owner: str, now: float) -> bool:
        """Whether ``owner`` has the row for long enough to decide about it."""
        held = self.leases.get(row)
        return held is not None and held.owner == owner and held.until - MARGIN_SECONDS > now

    def forget_ended(self, now: float) -> None:
        """Drop leases that ended long ago."""
        if len(self.leases) > 1000:
            ended = now - LEASE_SECONDS
            self.leases = {row: lease for row, lease in self.leases.items() if lease.until > ended}
