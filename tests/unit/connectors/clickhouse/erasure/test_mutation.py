"""A change of a replicated table is waited for, although the replica learns of it only afterwards."""

from __future__ import annotations

from typing import Any, cast

import pytest

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.erasure import mutation
from connectors.clickhouse.erasure.mutation import mutate
from streams.core.errors import UnavailableError


class Replica:
    """``listed``: what `system.mutations` shows, look by look: how many, how many are left, and a failure."""

    def __init__(self, *listed: tuple[int, int, str]) -> None:
        self.listed = list(listed)

    async def command(self, sql: str, given: Any) -> None: ...

    async def rows(self, sql: str, given: Any) -> list[tuple[int, int, str]]:
        return [self.listed.pop(0)]


async def run(replica: Replica) -> None:
    await mutate(cast(ClickHouseClient, replica), "esk", "logs_labeled", "DELETE WHERE 1", {})


async def test_nothing_listed_yet_is_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutation, "_LOOK_SECONDS", 0.0)
    replica = Replica((0, 0, ""), (1, 1, ""), (1, 0, ""))
    await run(replica)
    assert not replica.listed
    await run(Replica((1, 1, ""), (0, 0, "")))  # somebody ended it
    monkeypatch.setattr(mutation, "_LEARN_SECONDS", -1.0)
    with pytest.raises(UnavailableError, match="not listed"):
        await run(Replica((0, 0, "")))
    with pytest.raises(UnavailableError, match="disk"):
        await run(Replica((1, 1, "disk")))
