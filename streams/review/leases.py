"""Leases and decisions of reviewers, in the order of the review topic.

Several processes serve reviewers. Each writes the requests of its reviewers to one compacted partition and
reads all of it. The first request for a row has the row, and every process comes to the same result without
asking another one. See docs/internals/adr/0008-review-queue.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import orjson

from streams.core.records import Outgoing, Record
from streams.core.topics import Topics

JOB = b"review"  # header of human labels: they are no live rows, and have no latency

LEASE_SECONDS = 600.0
# Clocks of two machines differ; a lease is not used in its last so many seconds.
MARGIN_SECONDS = 60.0
_MOST_SETTLED = 300_000

What = Literal["label", "answer", "skip", "release", "undo"]


def person_of(owner: str) -> str:
    """The reviewer of a desk."""
    return owner.partition("/")[0]


@dataclass(frozen=True)
class ReviewLease:
    """``owner`` (a reviewer's desk) has the row until ``until`` (seconds since 1970)."""

    owner: str
    until: float


def lease_message(topics: Topics, item: str, owner: str, most: int = 1) -> Outgoing:
    """Requests a row, or more time for it. ``most``: how many people are asked about it."""
    value = orjson.dumps({"owner": owner, "seconds": LEASE_SECONDS, "most": most})
    return Outgoing(topics.review, 0, f"lease/{item}".encode(), value)


def decision_message(topics: Topics, item: str, owner: str, what: What, label: str = "") -> Outgoing:
    """Records the decision about a row. ``label``: the label, or the answer without one."""
    value = orjson.dumps({"owner": owner, "what": what, "label": label})
    return Outgoing(topics.review, 0, f"done/{item}".encode(), value)


class Reviews:
    """The content of the review topic so far. Rows of a queue are identified by `item_key`."""

    def __init__(self) -> None:
        self.leases: dict[str, ReviewLease] = {}
        # Item -> person -> label or other answer, until the tables have it.
        self.settled: dict[str, dict[str, str]] = {}
        self.skipped: dict[str, set[str]] = {}
        self.seen = -1

    def learn(self, record: Record) -> None:
        """Read a message of the topic, in order; messages that were read before are ignored."""
        if record.offset == 0 and self.seen > 0:
            self.__init__()  # type: ignore[misc]  # the topic was made anew, or is read again
        if record.offset <= self.seen:
            return
        self.seen = record.offset
        kind, _, item = (record.key or b"").decode("utf-8", "replace").partition("/")
        if record.value is None:  # its row was erased: nobody writes of it again
            for known in (self.leases, self.settled, self.skipped):
                known.pop(item, None)
            return
        try:
            told: dict[str, Any] = orjson.loads(record.value or b"")
            owner = str(told["owner"])
            at = record.timestamp / 1000
            if kind == "lease":
                self._lease(item, owner, at, float(told["seconds"]), int(told.get("most", 1)))
            elif kind == "done":
                self._done(item, owner, at, told)
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            return  # of another program

    def _lease(self, item: str, owner: str, at: float, seconds: float, most: int) -> None:
        if not self._taken(item, owner, at) and not self._answered(item, owner, most):
            self.leases[item] = ReviewLease(owner, at + seconds)

    def _taken(self, item: str, owner: str, at: float) -> bool:
        held = self.leases.get(item)
        return held is not None and held.owner != owner and held.until > at

    def _answered(self, item: str, owner: str, most: int) -> bool:
        answers = self.settled.get(item, {})
        return len(answers) >= most or person_of(owner) in answers

    def _done(self, item: str, owner: str, at: float, told: dict[str, Any]) -> None:
        what = told["what"]
        if what == "undo":
            answers = self.settled.get(item, {})
            answers.pop(person_of(owner), None)
            if not answers:
                self.settled.pop(item, None)
            if not self._taken(item, owner, at):
                self.leases[item] = ReviewLease(owner, at + LEASE_SECONDS)
            return
        held = self.leases.get(item)
        if held is None or held.owner == owner:
            self.leases.pop(item, None)
        if what in ("label", "answer"):
            self.settled.setdefault(item, {})[person_of(owner)] = str(told["label"])
            if len(self.settled) > _MOST_SETTLED:
                self.settled.pop(next(iter(self.settled)))
        elif what == "skip":
            self.skipped.setdefault(item, set()).add(owner)

    def free(self, item: str, owner: str, now: float, most: int = 1) -> bool:
        """Whether ``owner`` may request ``item``, about which ``most`` people are asked."""
        if self._answered(item, owner, most) or owner in self.skipped.get(item, ()):
            return False
        held = self.leases.get(item)
        return held is None or held.owner == owner or held.until <= now

    def holds(self, item: str, owner: str, now: float) -> bool:
        """Whether ``owner`` has the row for long enough to decide about it."""
        held = self.leases.get(item)
        return held is not None and held.owner == owner and held.until - MARGIN_SECONDS > now

    def forget_ended(self, now: float) -> None:
        """Drop leases that ended long ago."""
        if len(self.leases) > 1000:
            ended = now - LEASE_SECONDS
            self.leases = {item: lease for item, lease in self.leases.items() if lease.until > ended}
