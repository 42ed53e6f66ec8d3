"""A replicated table that is replaced on several servers, whose processes and sinks do as they like."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.schema.place_in_key import Step, due, next_step
from connectors.clickhouse.schema.replica_servers import fetched, refuse_unknown_replicas
from streams.core.errors import AccessError, ConfigurationError

_NAMES = ("table", "following", "former")


class _Killed(Exception):
    """The process ends."""


class _Cluster:
    """Servers with names of their own for the tables `old` and `new`, which the Keeper keeps for all."""

    def __init__(self, servers: int, cuts: list[int]) -> None:
        self.servers = [{"table": "old"} for _ in range(servers)]
        self.rows = {"old": {0}, "new": set[int]()}
        self.stored = {0}
        self._left = list(cuts)
        self._next = self._left.pop(0) if self._left else None
        self._done = 0

    def insert(self, server: int) -> None:
        """A sink that uses ``server``."""
        row = len(self.stored)
        self.stored.add(row)
        self.rows[self.servers[server % len(self.servers)]["table"]].add(row)

    def run(self) -> None:
        """A process, from where the former one was killed."""
        while True:
            steps = [next_step(*(self._ready(one.get(name)) for name in _NAMES)) for one in self.servers]
            step, at = due(steps)
            if step is Step.NOTHING:
                return
            here = [self.servers[number] for number in at]
            copied = any(one["table"] == "new" for one in self.servers)
            match step:
                case Step.CREATE:
                    for one in here:
                        self._change(one, {**one, "following": "new"})
                case Step.EXCHANGE:
                    if not copied:
                        self.rows["new"] |= self.rows["old"]
                    for one in here:
                        self._change(one, {"table": one["following"], "following": one["table"]})
                case Step.RETIRE:
                    for one in here:
                        self._change(one, {"table": one["table"], "former": one["following"]})
                case Step.FINISH:
                    assert all(one["table"] == "new" for one in self.servers), "a sink may use the other"
                    self.rows["new"] |= self.rows["old"]
                    for one in here:
                        self._change(one, {"table": one["table"]})
                case _:
                    raise AssertionError(step)

    def _change(self, one: dict[str, str], names: dict[str, str]) -> None:
        self._done += 1
        self.insert(self._done)
        if self._done == self._next:
            self._next = self._done + self._left.pop(0) if self._left else None
            raise _Killed
        one.clear()
        one.update(names)

    @staticmethod
    def _ready(table: str | None) -> bool | None:
        return None if table is None else table == "new"


@given(servers=st.integers(1, 4), cuts=st.lists(st.integers(1, 6), max_size=5))
def test_no_server_drops_what_another_one_still_inserts_into(servers: int, cuts: list[int]) -> None:
    cluster = _Cluster(servers, cuts)
    for _ in range(len(cuts) + 1):
        try:
            cluster.run()
        except _Killed:
            continue
        break
    assert cluster.servers == [{"table": "new"}] * servers
    assert cluster.rows["new"] == cluster.stored


class _Server:
    """A server that knows of replicas at some paths: how many."""

    def __init__(self, **known: int) -> None:
        self._known = known

    async def rows(self, sql: str, parameters: Any) -> list[tuple[str, int]]:
        return list(self._known.items())


class _WithoutRights:
    """One server, whose user may not read `system.replicas`."""

    async def rows(self, sql: str, parameters: Any) -> list[tuple[int]]:
        if "system.replicas" in sql:
            raise AccessError("no", setting="CLICKHOUSE_USERNAME", fix="grant it")
        return []


async def test_of_tables_without_replicas_no_right_to_look_at_replicas_is_needed() -> None:
    one = cast(ClickHouseClient, _WithoutRights())
    await refuse_unknown_replicas([one], "res", ["logs_labeled"])
    await fetched(one, "res", "logs_labeled")


@pytest.mark.parametrize(
    ("servers", "why"),
    [
        ([_Server(old=2), _Server(old=2)], ""),
        ([_Server(old=2, new=1), _Server(old=2)], ""),  # the next table is not on both yet
        ([_Server(new=2), _Server(new=2, old=1)], ""),  # the former one is gone on one of them
        ([_Server(), _Server()], ""),  # not replicated
        ([_Server(old=1)], ""),
        ([_Server(old=2)], "has 2 replicas .old., and CLICKHOUSE_HOST names the hosts of 1"),
        ([_Server(old=3), _Server(old=3)], "has 3 replicas"),
        ([_Server(one=1), _Server(other=1)], "another table on each host: one, other"),
    ],
)
async def test_a_replica_that_nobody_has_named_is_refused(servers: list[_Server], why: str) -> None:
    every = [cast(ClickHouseClient, one) for one in servers]
    if not why:
        await refuse_unknown_replicas(every, "res", ["logs_labeled"])
        return
    with pytest.raises(ConfigurationError, match=why):
        await refuse_unknown_replicas(every, "res", ["logs_labeled"])
