"""A version is registered through a balancer, behind which replicas lag."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from connectors.clickhouse.queries.label_versions import register_version
from streams.core import availability
from streams.core.availability import until_available
from streams.core.settings import Settings

MOMENT = datetime(2026, 3, 1, tzinfo=UTC)
PROMOTED = [(("m", "", "", "full", "promoted", MOMENT, False), MOMENT, MOMENT)]
TRIAL = [(("m", "", "", "full", "trial", MOMENT, False), MOMENT, MOMENT)]


class Replicas:
    """Of the client: the next questions are answered with ``answers``."""

    def __init__(self, *answers: list[Any]) -> None:
        self.answers = list(answers)

    async def command(self, query: str, parameters: Any) -> None: ...

    async def rows(self, query: str, parameters: Any) -> list[Any]:
        return [("MergeTree",)] if "system.tables" in query else self.answers.pop(0)


@pytest.mark.parametrize(
    "answers",
    [
        ([], [], PROMOTED),
        # A known trial, whose promotion meets a replica without it.
        (TRIAL, [], TRIAL, [(1,)]),
    ],
)
async def test_a_version_that_a_replica_does_not_show_yet_is_waited_for(
    answers: tuple[list[Any], ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(availability, "_FIRST", 0.0)
    client: Any = Replicas(*answers)
    await until_available("ClickHouse", lambda: register_version(client, Settings(), version="v1", model="m"))
    assert client.answers == []
