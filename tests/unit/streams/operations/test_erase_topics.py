"""What an erasure finds on the compacted topics, and what it writes there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from connectors.clickhouse.erasure.person import Person
from streams.core.records import Outgoing, Record
from streams.core.settings import Settings
from streams.core.times import micros_of
from streams.core.topics import Topics
from streams.jobs.job import FileSource, Job, Jobs, Wish
from streams.operations import erase_topics
from streams.operations.erase_topics import forget_in_jobs, jobs_naming, review_keys
from streams.ports.lookups import Place
from streams.ports.review import item_key
from streams.review.leases import decision_message

AT = datetime(2026, 3, 2, tzinfo=UTC)
SETTINGS = Settings(clickhouse_host="localhost", kafka_bootstrap_servers="localhost:1")


class Tail:
    def __init__(self, messages: Sequence[Outgoing]) -> None:
        self._messages = messages

    async def read(self, topic: str, *_: int) -> AsyncIterator[list[Record]]:
        yield [Record(topic, 0, n, 0, one.key, one.value) for n, one in enumerate(self._messages)]


async def test_of_a_row_every_decision_is_found_although_its_labels_are_gone() -> None:
    places = [Place(AT, "42"), Place(AT.replace(year=2025), "42"), Place(AT, "420")]
    told = [decision_message(Topics(), item_key(one, "audit"), "anna/1", "skip") for one in places]
    tail = cast(Any, Tail(told))
    assert await review_keys(SETTINGS, tail, [], ["42"]) == sorted(one.key or b"" for one in told[:2])
    assert await review_keys(SETTINGS, tail, [("42", micros_of(AT))]) == [told[0].key]
    assert await review_keys(SETTINGS, tail, []) == []


async def test_finished_jobs_forget_whom_they_named(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Outgoing] = []

    async def send_each(_: Any, messages: Sequence[Outgoing]) -> None:
        sent.extend(messages)

    monkeypatch.setattr(erase_topics, "send_each", send_each)
    person = Person("user", ["4711", "p1:ab"])
    file = FileSource(id="f1", name="4711.csv", digest="d", reading={}, columns={}, time=AT)
    jobs = Jobs()
    for job in (
        Job(id="a", source="table", where=["label=login", "user = 4711"], done=True),
        Job(id="b", source="table", where=["user!=p2:cd|p1:ab"], done=True),
        Job(id="c", source="table", position=[5, "7"], done=True),
        Job(id="d", source="file", file=file, done=True),
        Job(id="e", source="table", where=["user=4711"]),
        Job(id="f", source="table", where=["user=47110", "label=4711"], position=[5, "8"], done=True),
    ):
        jobs.jobs[job.id] = job
    found = jobs_naming(jobs, person, ["7"], ["f1"])
    assert [job.id for job in found] == ["a", "b", "c", "d", "e"]
    gone, left = await forget_in_jobs(SETTINGS, jobs, found, person)
    assert gone == 4
    assert [text.split()[1] for text in left] == ["e"]
    after = Jobs()
    for number, one in enumerate(sent):
        after.learn(Record(one.topic, 0, number, 0, one.key, one.value))
    assert after.jobs["a"].where == ["label=login", "user=erased:"]
    assert not jobs_naming(after, person, ["7"], ["f1"])
    assert {one.key for one in sent if one.value is None} == {b"job/%c/asked" % name for name in b"abcd"}
    jobs.wishes["e"] = Wish.DROP
    assert await forget_in_jobs(SETTINGS, jobs, found[4:], person) == (1, [])
