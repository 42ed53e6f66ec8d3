"""What is kept of drift on the topics is read as it was written."""

from __future__ import annotations

from datetime import UTC, datetime

from streams.core.records import Outgoing, Record
from streams.core.topics import Topics
from streams.drift.checkpoint import (
    AccuracyState,
    KnownDrift,
    StoredHour,
    TrafficState,
    endpoint_message,
    vocabulary_message,
)
from streams.drift.counts import Counts
from streams.drift.endpoint import AskedText, EndpointWatch
from streams.drift.texts import Vocabulary, look_at
from streams.drift.watch import KEPT_HOURS, DriftFinding

TOPICS = Topics("esk")
AT = datetime(2026, 3, 2, 9, tzinfo=UTC)
FOUND = DriftFinding(
    series="label:cards", window="2 h", found=0.1, expected=0.05, chance=1e-9, since=AT, at=AT
)
STATE = TrafficState(
    version="v1",
    quarter=1_969_380,
    hours=300,
    judged=20,
    alarms=[FOUND],
    begins={"confidence": 492_000},
    accuracy=AccuracyState(rows=250, wrong=0.1, now=0.12, evidence=3.0, alarm=False),
)
ASKED = EndpointWatch(version="v1", texts=[AskedText(row_id="1", created_at=AT, label="cards")], asked_at=AT)


def known_of(*messages: Outgoing) -> KnownDrift:
    known = KnownDrift()
    for offset, one in enumerate(messages):
        known.record(Record(one.topic, 0, offset, 0, one.key, one.value))
    return known


def test_it_is_read_as_it_was_written() -> None:
    vocabulary = Vocabulary()
    vocabulary.turn_to(20_000)
    look_at([("как открыть вклад", 1)], vocabulary)
    vocabulary.turn_to(20_001)
    hour = StoredHour(version="v1", hour=492_345, counts=Counts(labels={"cards": 3}), flagged=["confidence"])
    known = known_of(
        STATE.message(TOPICS),
        endpoint_message(TOPICS, ASKED),
        hour.message(TOPICS),
        vocabulary_message(TOPICS, vocabulary),
    )
    assert known.traffic == STATE
    assert known.endpoints == {"v1": ASKED}
    assert list(known.hours.values()) == [hour]
    assert known.vocabulary is not None
    assert known.vocabulary.pack() == vocabulary.pack()
    told = known.told()
    assert (told["version"], told["judged"], told["alarms"][0]["series"]) == ("v1", 20, "label:cards")
    assert told["model"]["texts"] == 1


def test_hours_take_the_place_of_those_of_a_month_before() -> None:
    hours = [StoredHour(version="v1", hour=hour, counts=Counts()) for hour in range(3 * KEPT_HOURS)]
    messages = [one.message(TOPICS) for one in hours]
    assert len({one.key for one in messages}) == KEPT_HOURS
    assert {one.hour for one in known_of(*messages).hours.values()} == set(
        range(2 * KEPT_HOURS, 3 * KEPT_HOURS)
    )


def test_what_cannot_be_read_is_passed_over() -> None:
    known = KnownDrift()
    for key in ("drift/traffic", "drift/endpoint/v1", "drift/hour/3", "drift/vocabulary", "drift/other"):
        for value in (None, b"", b"{}", b"[1]", b'{"bits": ["eJwDAAAAAAE="], "day": 1, "learnt_days": 1}'):
            assert known.learn(key, value)
    assert not known.learn("v1", b"{}")
    assert known.told()["alarms"] == []
