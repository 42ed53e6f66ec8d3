"""Jobs and wishes about them, as they are learned from their topic."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from streams.core.errors import ConfigurationError
from streams.core.records import Outgoing, Record
from streams.core.topics import Topics
from streams.jobs.job import UNFINISHED, Job, Jobs, Stop, Wish, figures_message, wish_message

TOPICS = Topics("esk")


def received(message: Outgoing, offset: int = 0) -> Record:
    return Record(message.topic, 0, offset, 0, message.key, message.value, tuple(message.headers))


def test_a_job_and_a_wish_do_not_overwrite_each_other() -> None:
    jobs = Jobs()
    job = Job(source="topic", version="v2", position={"0": 5}, starts={0: 1}, ends={0: 9})
    jobs.learn(received(job.message(TOPICS)))
    assert jobs.state(jobs.named(job.id)) == "publishing"
    jobs.learn(received(wish_message(TOPICS, job.id, Wish.PAUSE)))
    jobs.learn(received(job.model_copy(update={"published": 4}).message(TOPICS)))
    assert jobs.named(job.id).published == 4
    assert jobs.named(job.id).ends == {0: 9}
    assert jobs.state(jobs.named(job.id)) == "paused"
    jobs.learn(received(wish_message(TOPICS, job.id, Wish.RUN)))
    late = job.model_copy(update={"updated_at": datetime.now(UTC) - timedelta(minutes=1)})
    jobs.learn(received(late.message(TOPICS)))
    assert jobs.state(jobs.named(job.id)) == "interrupted"
    jobs.learn(received(job.model_copy(update={"complete": True, "done": True}).message(TOPICS)))
    assert jobs.state(jobs.named(job.id)) == "done"
    jobs.learn(Record("esk.cursor", 0, 0, 0, b"esk.logs", b"{}"))
    assert list(jobs.jobs) == [job.id]
    with pytest.raises(ConfigurationError):
        jobs.named("none")


def test_a_canary_runs_until_it_is_stopped_and_says_why() -> None:
    jobs = Jobs()
    first = Job(source="live", version="v2", share=0.05)
    jobs.learn(received(first.message(TOPICS)))
    assert (jobs.canary(), jobs.state(first)) == (first, "waiting")
    running = first.model_copy(update={"replay_topic_id": "id"})
    jobs.learn(received(running.message(TOPICS)))
    jobs.learn(received(figures_message(TOPICS, first.id, {"pairs": 7})))
    assert jobs.state(running) == "running"
    assert jobs.as_dict(running)["figures"] == {"pairs": 7}
    assert jobs.as_dict(running)["stopped"] is None
    silent = running.model_copy(update={"updated_at": datetime.now(UTC) - timedelta(minutes=5)})
    assert jobs.state(silent) == "interrupted"
    jobs.learn(received(wish_message(TOPICS, first.id, Wish.CANCEL, Stop(why="loss", text="worse"))))
    assert jobs.canary() is None
    assert jobs.last_canary() == running
    told = jobs.as_dict(running)
    assert (told["state"], told["stopped"]["why"], told["stopped"]["text"]) == ("stopped", "loss", "worse")
    assert told["state"] not in UNFINISHED
    jobs.learn(received(wish_message(TOPICS, first.id, Wish.RUN)))
    assert (jobs.canary(), jobs.as_dict(running)["stopped"]) == (running, None)
    jobs.learn(received(wish_message(TOPICS, first.id, Wish.DROP)))
    assert (jobs.canary(), jobs.last_canary()) == (None, None)


def test_of_canaries_begun_at_once_the_first_on_the_topic_runs_whatever_the_clocks_say() -> None:
    jobs = Jobs()
    first = Job(source="live", version="v2", share=0.05)
    early = first.begun_at - timedelta(minutes=1)
    second = Job(source="live", version="v3", share=0.05, begun_at=early)
    for one in (first, second):
        jobs.learn(received(one.message(TOPICS)))
    assert jobs.canaries() == [first, second]
    # One that has run stays the first, where the topic was compacted too.
    again, running = Jobs(), first.model_copy(update={"replay_topic_id": "id"})
    for one in (second, running):
        again.learn(received(one.message(TOPICS)))
    assert again.canary() == running
