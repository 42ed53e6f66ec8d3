"""How often the model differs from itself: which texts it is asked again, and how."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable
from typing import Any, cast

import pytest
import structlog

from agents.label import label_spec, labeler_of
from connectors.llm.client import ChatClient
from streams.core.context import REPLAY
from streams.core.environment import load
from streams.core.errors import ConfigurationError, RetryableError
from streams.core.label_version import LabelSpec
from streams.core.outcomes import Done
from streams.training.second_labels import SecondLabel, SecondLabels
from streams.training.sights import Sight
from tests.unit.agents.fakes import FakeModel, NoMemory, Said, Script, row, taxonomy


class Client(FakeModel):
    """Of an endpoint with one model."""

    def __init__(self, script: Script) -> None:
        super().__init__(script)
        self.closed = 0
        self.replays: list[bool] = []

    async def models(self) -> list[str]:
        return [self.name]

    def asking(self, model: str) -> Client:
        return self

    async def complete(self, messages: Any, **asked: Any) -> Said:
        self.replays.append(REPLAY.get())
        return await super().complete(messages, **asked)

    async def close(self) -> None:
        self.closed += 1


def sights(count: int) -> list[Sight]:
    return [Sight(f"где мой заказ {at}", "delivery", 1_000 + at, False, True) for at in range(count)]


async def asked(
    client: Callable[[], Client], spec: LabelSpec, some: list[Sight], wanted: int
) -> list[SecondLabel]:
    second = SecondLabels(cast(Callable[[], ChatClient], client), pause_seconds=0.0)
    second.want(spec, some)
    running = asyncio.create_task(second.run())
    found: list[SecondLabel] = []
    while len(found) < wanted:
        await asyncio.sleep(0.001)
        found += second.taken()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    return found


async def spec_of(mode: str) -> LabelSpec:
    def script(question: dict[str, Any]) -> str:
        return shown(question)[0][0]

    return await label_spec(load({"LLM_LABELER_MODE": mode}, None), FakeModel(script), taxonomy())


def shown(question: dict[str, Any]) -> list[tuple[str, str]]:
    """Letters and labels, in the order of the prompt."""
    return re.findall(r"^(?:([A-Z])\.|-) (\w+) \(", question["messages"][0]["content"], re.MULTILINE)


@pytest.mark.parametrize("mode", ["json", "choice"])
async def test_the_labels_are_in_the_opposite_order_and_equal_texts_are_asked_each_time(mode: str) -> None:
    def last(question: dict[str, Any]) -> str:
        letter, label = shown(question)[-1]
        return letter or f'{{"label": "{label}"}}'

    spec, client, first = await spec_of(mode), Client(last), FakeModel(last)
    assert spec.mode == mode
    outcome = await labeler_of(spec, first, NoMemory()).label(row())
    assert isinstance(outcome, Done)
    some = sights(1) * 2
    found = await asked(lambda: client, spec, some, 2)
    names = [[label for _, label in shown(one.asked[0])] for one in (first, client)]
    assert names[0] == names[1][::-1]
    assert len(client.asked) == 2
    assert [one.label for one in found] == [names[1][-1]] * 2
    assert outcome.message.label == names[0][-1]
    if mode == "json":
        assert client.asked[0]["schema"]["properties"]["label"]["enum"] == names[1]
    assert (client.replays, client.closed) == ([True, True], 1)


async def test_what_cannot_be_asked_is_left_out_and_the_rest_goes_on() -> None:
    errors: list[Exception] = [RetryableError("500")]

    def script(question: dict[str, Any]) -> str:
        if errors:
            raise errors.pop()
        return '{"label": "payment"}'

    client, unknown = Client(script), [ConfigurationError("no address", setting="LLM_LABELER_API_BASE")]

    def made() -> Client:
        if unknown:
            raise unknown.pop()
        return client

    spec = await spec_of("json")
    found = await asked(made, spec, sights(3), 3)
    assert [one.label for one in found] == [None, None, "payment"]
    other = await asked(made, spec.model_copy(update={"model": "another"}), sights(1), 1)
    assert [one.label for one in other] == [None]
    assert len(client.asked) == 2


async def test_a_model_that_gives_no_label_is_not_asked_one_text_after_the_other() -> None:
    client = Client(lambda question: "?")
    with structlog.testing.capture_logs() as logs:
        found = await asked(lambda: client, await spec_of("json"), sights(1), 1)
    assert [one.label for one in found] == [None]
    # After this line it pauses.
    assert [line["why"] for line in logs if line["event"] == "text_not_asked_twice"] == ["invalid-answer"]
