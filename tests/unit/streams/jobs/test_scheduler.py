"""Which job is whose, and how fast one goes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from connectors.files.mapping import Columns
from connectors.files.uploads import Upload
from streams.core.records import Outgoing, Record
from streams.core.topics import Topics
from streams.jobs.job import FileSource, Job, Jobs
from streams.jobs.scheduler import JobRates

TOPICS = Topics("esk")
TIME = datetime(2026, 1, 1, tzinfo=UTC)


def source(upload: Upload) -> FileSource:
    columns = Columns.of(upload.mapping)
    assert columns is not None
    return FileSource(
        id=upload.file_id,
        digest=upload.file_id,
        reading=upload.reading.model_dump(),
        columns=columns.model_dump(),
        time=TIME,
    )


def received(message: Outgoing) -> Record:
    return Record(message.topic, 0, 0, 0, message.key, message.value)


def test_who_asks_never_goes_before_who_publishes() -> None:
    jobs = Jobs()
    asked = Job(id="upload-1", source="file", kept=True)
    jobs.learn(received(asked.asked_message(TOPICS)))
    assert jobs.state(jobs.named("upload-1")) == "waiting"
    at_work = asked.model_copy(update={"published": 5, "replay_topic_id": "t"})
    jobs.learn(received(at_work.message(TOPICS)))
    jobs.learn(received(asked.asked_message(TOPICS)))
    assert jobs.named("upload-1").published == 5
    assert jobs.state(jobs.named("upload-1")) == "publishing"


def test_a_pace_is_that_of_the_last_minute() -> None:
    times = iter((0.0, 10.0, 100.0, 110.0))
    pace = JobRates(lambda: next(times))
    assert pace.of("a") is None
    for done in (0, 1000, 1100, 1200):
        pace.saw("a", done)
    assert pace.of("a") == pytest.approx(10.0)
    pace.forget("a")
    assert pace.of("a") is None
