"""The name under which a worker labels live rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from agents.ports import Answers
from connectors.llm.client import ChatClient
from streams.core.label_version import LabelSpec
from streams.core.records import Outgoing, Record
from streams.core.settings import Settings
from streams.core.topics import Topics
from streams.pipeline.label_steps import LabelSteps

TOPICS = Topics("esk")
SETTINGS = Settings(kafka_bootstrap_servers="127.0.0.1:9")  # nothing connects


def spec(prompt: str, version: str = "v1") -> LabelSpec:
    return LabelSpec(version=version, model="m", mode="json", prompts={"label": prompt}, taxonomy={})


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> list[Outgoing]:
    """The versions topic: what workers read at their start, and what they add to it."""
    content: list[Outgoing] = []

    class Follower:
        def __init__(self, connection: Any, name: str, learn: Callable[[Record], None]) -> None:
            self._learn = learn

        async def start(self) -> None:
            for offset, one in enumerate(content):
                self._learn(Record(one.topic, 0, offset, 0, one.key, one.value, tuple(one.headers)))

    async def send(connection: Any, messages: Sequence[Outgoing]) -> None:
        content.extend(messages)

    async def register(self: LabelSteps) -> None: ...

    monkeypatch.setattr("streams.pipeline.label_steps.Follower", Follower)
    monkeypatch.setattr("streams.pipeline.label_steps.send_each", send)
    monkeypatch.setattr(LabelSteps, "_register", register)
    return content


async def started(asked: LabelSpec) -> str:
    """The name under which a worker that asks so labels, after it has told it to the others."""
    steps = LabelSteps(SETTINGS, TOPICS, cast(ChatClient, None), cast(Answers, None), asked)
    await steps.start()
    await steps._tell()
    assert steps.live.same_as(asked)
    return steps.live.version


async def test_a_worker_that_asks_otherwise_does_not_label_under_the_old_name(topic: list[Outgoing]) -> None:
    assert await started(spec("old")) == "v1"  # nothing was noted before
    renamed = await started(spec("new"))
    assert renamed == f"v1.{spec('new').digest}"
    # Workers that start again one after the other, in any order, and whose change is taken back.
    assert [await started(spec(one)) for one in ("old", "new", "old")] == ["v1", renamed, "v1"]
    assert await started(spec("third")) not in ("v1", renamed)
    assert await started(spec("new", "v2")) == "v2"
    assert [one.key for one in topic] == [
        b"v1",
        renamed.encode(),
        f"v1.{spec('third').digest}".encode(),
        b"v2",
    ]


async def test_a_long_name_stays_a_valid_one(topic: list[Outgoing]) -> None:
    longest = "x" * 100
    await started(spec("old", longest))
    assert len(Settings(label_version=await started(spec("new", longest))).label_version or "") == 100
