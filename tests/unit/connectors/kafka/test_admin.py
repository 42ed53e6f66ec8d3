"""Changes of topic settings that brokers refuse."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka.errors import IncompatibleBrokerVersion, KafkaConnectionError

from connectors.kafka import admin
from streams.core.errors import LabelstreamError

_SET = {"esk.rows": {"compression.type": "zstd"}, "esk.labeled": {"compression.type": "zstd"}}


async def altered(monkeypatch: pytest.MonkeyPatch, answer: Any) -> dict[str, str]:
    async def send(client: Any, request: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(responses=answer)

    monkeypatch.setattr(admin, "send_to_any_broker", send)
    return await admin._alter(cast(Any, SimpleNamespace(_client=None)), _SET)


async def test_a_setting_that_a_managed_cluster_refuses_does_not_end_init(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = [(44, "not permitted", 2, "esk.rows"), (0, None, 2, "esk.labeled")]
    assert await altered(monkeypatch, answer) == {"esk.rows": "the brokers refuse it: not permitted"}
    assert "AlterConfigs" in (await altered(monkeypatch, [(29, None, 2, "esk.rows")]))["esk.rows"]
    assert (await altered(monkeypatch, IncompatibleBrokerVersion("old"))).keys() == _SET.keys()


async def test_new_topics_are_waited_for_until_each_broker_that_answers_knows_them() -> None:
    led, heard = [(0, 0, 1, 0, [1], [1], [])], [(5, 0, -1, 0, [1], [1], [])]
    answers = {
        1: [(0, "esk.rows", b"", False, led, 0, {})],
        2: [(3, "esk.rows", b"", False, [], 0, {}), (0, "esk.rows", b"", False, heard, 0, {})],
        3: [KafkaConnectionError("it is down")],
    }
    last = (0, "esk.rows", b"", False, led, 0, {})
    asked: list[int] = []

    async def send(node: int, request: Any) -> Any:
        asked.append(node)
        answer = answers[node].pop(0) if answers[node] else last
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(topics=[answer])

    brokers = [SimpleNamespace(nodeId=node) for node in answers]
    client = SimpleNamespace(cluster=SimpleNamespace(brokers=lambda: brokers), send=send)
    await admin._known(cast(Any, SimpleNamespace(_client=client)), ["esk.rows"])
    assert sorted(asked) == [1, 2, 2, 2, 3]


async def test_what_may_work_later_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LabelstreamError, match=r"esk\.rows"):
        await altered(monkeypatch, [(7, "timed out", 2, "esk.rows")])
