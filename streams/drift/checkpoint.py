"""What is kept of drift on the compacted topics, so that a restart begins where the last one ended.

On the versions topic, where workers and the API see it: ``drift/traffic``, the state of the comparison with
the reference, and ``drift/endpoint/<version>``, the texts of a version that are asked again. On the cursor
topic, where the poller alone needs it: ``drift/hour/<slot>``, an hour's counts, a slot for each hour of the
reference, and ``drift/vocabulary``. All are counts and hashes; there is no text among them.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streams.core.records import Outgoing, Record
from streams.core.topics import Topics
from streams.drift.counts import QUARTER_SECONDS, Counts
from streams.drift.endpoint import EndpointWatch
from streams.drift.texts import Vocabulary
from streams.drift.watch import KEPT_HOURS, DriftFinding

DRIFT = "drift/"
_TRAFFIC, _ENDPOINT = f"{DRIFT}traffic", f"{DRIFT}endpoint/"
_HOUR, _VOCABULARY = f"{DRIFT}hour/", f"{DRIFT}vocabulary"


class AccuracyState(BaseModel):
    """As `streams.drift.accuracy.AccuracyWatch`."""

    model_config = ConfigDict(frozen=True)

    rows: int
    wrong: float | None
    now: float | None
    evidence: float
    alarm: bool


class TrafficState(BaseModel):
    """How far the labels of ``version`` were compared: up to the quarter of an hour ``quarter``, counted from
    1970 on. ``judged``: series that the reference knows enough about. ``begins``: as in `TrafficWatch`.
    """

    model_config = ConfigDict(frozen=True)

    version: str
    quarter: int
    hours: int = 0
    judged: int = 0
    alarms: list[DriftFinding] = Field(default_factory=list)
    begins: dict[str, int] = Field(default_factory=dict)
    accuracy: AccuracyState | None = None

    @property
    def end(self) -> datetime:
        """The end of what was compared."""
        return datetime.fromtimestamp((self.quarter + 1) * QUARTER_SECONDS, UTC)

    def message(self, topics: Topics) -> Outgoing:
        """For the versions topic."""
        return Outgoing(topics.versions, 0, _TRAFFIC.encode(), self.model_dump_json().encode())


class StoredHour(BaseModel):
    """An hour's counts, and the series that were in alarm then."""

    model_config = ConfigDict(frozen=True)

    version: str
    hour: int
    counts: Counts
    flagged: list[str] = Field(default_factory=list)

    def message(self, topics: Topics) -> Outgoing:
        """For the cursor topic."""
        key = f"{_HOUR}{self.hour % KEPT_HOURS}".encode()
        return Outgoing(topics.cursor, 0, key, self.model_dump_json().encode())


def endpoint_message(topics: Topics, watch: EndpointWatch) -> Outgoing:
    """For the versions topic."""
    return Outgoing(
        topics.versions, 0, f"{_ENDPOINT}{watch.version}".encode(), watch.model_dump_json().encode()
    )


def vocabulary_message(topics: Topics, vocabulary: Vocabulary) -> Outgoing:
    """For the cursor topic: some 100 kB, once a day."""
    value = {
        "day": vocabulary.day,
        "learnt_days": vocabulary.learnt_days,
        "bits": [base64.b64encode(zlib.compress(bits)).decode() for bits in vocabulary.pack()],
    }
    return Outgoing(topics.cursor, 0, _VOCABULARY.encode(), orjson.dumps(value))


class KnownDrift:
    """What both topics said so far."""

    def __init__(self) -> None:
        self.traffic: TrafficState | None = None
        self.endpoints: dict[str, EndpointWatch] = {}
        self.hours: dict[int, StoredHour] = {}
        self.vocabulary: Vocabulary | None = None

    def record(self, record: Record) -> None:
        """Read a message, in order; others are ignored."""
        self.learn((record.key or b"").decode("utf-8", "replace"), record.value)

    def learn(self, key: str, value: bytes | None) -> bool:
        """Read a message; returns whether it is about drift."""
        if not key.startswith(DRIFT):
            return False
        try:
            if key == _TRAFFIC:
                self.traffic = TrafficState.model_validate_json(value or b"")
            elif key.startswith(_ENDPOINT):
                found = EndpointWatch.model_validate_json(value or b"")
                self.endpoints[found.version] = found
            elif key.startswith(_HOUR):
                hour = StoredHour.model_validate_json(value or b"")
                self.hours[hour.hour % KEPT_HOURS] = hour
            elif key == _VOCABULARY:
                self.vocabulary = _vocabulary(orjson.loads(value or b""))
        except (ValidationError, ValueError, KeyError, TypeError, zlib.error):
            pass  # of another release
        return True

    def told(self) -> dict[str, Any]:
        """For `status` and the page: the version whose labels are compared, and what was found."""
        state = self.traffic
        watched = state.version if state else None
        model = self.endpoints.get(watched) if watched else None
        if model is None:  # nothing was compared yet
            model = max(self.endpoints.values(), key=lambda one: str(one.asked_at or ""), default=None)
        return {
            "version": watched,
            "at": state.end.isoformat() if state else None,
            "reference_hours": state.hours if state else 0,
            "judged": state.judged if state else 0,
            "alarms": [one.model_dump(mode="json") for one in state.alarms] if state else [],
            "accuracy": state.accuracy.model_dump() if state and state.accuracy else None,
            "model": model.told() if model else None,
        }


def _vocabulary(told: Mapping[str, Any]) -> Vocabulary:
    bits = [zlib.decompress(base64.b64decode(one)) for one in told["bits"]]
    return Vocabulary.unpack(int(told["day"]), int(told["learnt_days"]), bits)
