"""When the rows of a revoked proxy are labelled again."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from streams.core.cascade import CascadeState
from streams.core.errors import UnavailableError
from streams.core.records import Outgoing, Record
from streams.core.topics import Topics
from streams.jobs.job import Jobs, Wish
from streams.training import repair as module
from streams.training.repair import Repairs
from streams.training.version_training import CascadeLimits, VersionTraining

CLEAN = datetime(2026, 1, 1, tzinfo=UTC)


async def test_a_repair_waits_for_late_workers_and_the_tables_and_is_requested_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jobs, now, unstored = Jobs(), [0.0], [3]
    context: Any = None

    async def read_ends(*_: object) -> dict[Any, int]:
        return {}

    async def count_unstored(*_: object) -> int:
        return unstored[0]

    async def note(_: object, message: Outgoing) -> None:
        jobs.learn(Record(message.topic, 0, 0, 0, message.key, message.value))

    for one in (read_ends, count_unstored, note):
        monkeypatch.setattr(module, one.__name__, one)

    def given() -> Any:
        if context is None:
            raise UnavailableError("the jobs are not known yet")
        return context

    state = CascadeState(
        version="v",
        state="revoked",
        generation=2,
        revoked_at=CLEAN,
        clean_until=CLEAN,
        checkpoint={"revoked": 2, "repair_since": int(CLEAN.timestamp()) * 1_000_000},
    )
    training = VersionTraining(state, CascadeLimits(0.01, 0.05, 480.0, deciding=True), {})
    training.memory.published = True
    repairs = Repairs(given, lambda: now[0])
    assert not await repairs.begin(training)
    context = SimpleNamespace(jobs=jobs, topics=Topics("esk"))
    assert not await repairs.begin(training)
    now[0] = 6.0
    assert not await repairs.begin(training)
    unstored[0] = 0
    assert await repairs.begin(training)
    (job,) = jobs.jobs.values()
    assert (job.version, job.to, job.kept, job.source) == ("v", "labeled", True, "table")
    assert job.proxy_since == int(CLEAN.timestamp()) * 1_000_000

    # Its successor, to which this one could not say that it is done, requests the same job.
    again = VersionTraining(state, CascadeLimits(0.01, 0.05, 480.0, deciding=True), {})
    second = Repairs(given, lambda: now[0])
    assert not await second.begin(again)
    now[0] = 20.0
    assert await second.begin(again)
    assert list(jobs.jobs) == [job.id]
    # A late worker's rows come when the first job is over.
    assert not await second.begin(again)
    job.done = True
    assert not await second.begin(again)
    now[0] = 30.0
    assert await second.begin(again)
    assert len(jobs.jobs) == 2
    # A person may cancel one: it holds up none that a later revocation begins.
    (last,) = (one for one in jobs.jobs if one != job.id)
    assert not await second.begin(again)
    now[0] = 40.0
    assert not await second.begin(again)
    jobs.wishes[last] = Wish.CANCEL
    assert await second.begin(again)
    assert len(jobs.jobs) == 3
