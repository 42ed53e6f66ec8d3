"""Questions that any broker can answer, where one of them has just ended."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka.errors import KafkaConnectionError, NodeNotReadyError, TopicAuthorizationFailedError

from connectors.kafka.connection import from_any_broker


class Asked:
    """Fails as told, then answers; the client knows three brokers."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.count = 0
        self.client = cast(Any, SimpleNamespace(cluster=SimpleNamespace(brokers=lambda: {1, 2, 3})))

    async def __call__(self) -> str:
        self.count += 1
        if self.failures:
            raise self.failures.pop(0)
        return "told"


@pytest.mark.parametrize("failure", [NodeNotReadyError, KafkaConnectionError])
async def test_another_broker_answers(failure: type[Exception]) -> None:
    asked = Asked(failure(), failure())
    assert await from_any_broker(asked.client, asked) == "told"
    assert asked.count == 3


async def test_nobody_answers() -> None:
    asked = Asked(*(NodeNotReadyError() for _ in range(9)))
    with pytest.raises(NodeNotReadyError):
        await from_any_broker(asked.client, asked)
    assert asked.count == 6


async def test_a_refusal_is_an_answer() -> None:
    asked = Asked(TopicAuthorizationFailedError())
    with pytest.raises(TopicAuthorizationFailedError):
        await from_any_broker(asked.client, asked)
    assert asked.count == 1
