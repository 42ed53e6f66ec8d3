"""The token of an insert: that of the same messages by the same owner, and of nothing else."""

from __future__ import annotations

import uuid
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pytest

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.sink.batch import Batch
from connectors.clickhouse.sink.replicas import Replicas, heeded
from streams.core.errors import UnavailableError
from streams.core.records import Record

_TOPIC = uuid.UUID(int=1)


class Client:
    def __init__(self, engine: str, replicas: int) -> None:
        self._engine, self._replicas = engine, replicas

    async def rows(self, sql: str, parameters: Any) -> list[tuple[Any, ...]]:
        return [(self._replicas, 1)] if "system.replicas" in sql else [("logs_labeled", self._engine)]


async def replicas_of(engine: str, count: int = 2) -> Replicas:
    found = Replicas(cast(ClickHouseClient, Client(engine, count)), "d")
    await found.learn()
    return found


def batch(*places: tuple[int, int]) -> Batch:
    records = [Record("t", partition, offset, 0, b"", b"", ()) for partition, offset in places]
    return Batch(pa.table({"n": list(range(len(places)))}), records)


async def test_a_token_is_of_topic_partitions_offsets_and_generation() -> None:
    replicas = await replicas_of("ReplicatedReplacingMergeTree")

    def token(some: Batch, topic: uuid.UUID = _TOPIC, generation: int = 1) -> Any:
        return replicas.insert_settings(some, topic, generation)["insert_deduplication_token"]

    some = batch((0, 1), (1, 2))
    assert token(some) == token(batch((0, 1), (1, 2)))
    others = [
        token(batch((0, 1))),
        token(batch((1, 1), (0, 2))),
        token(some, uuid.UUID(int=2)),
        token(some, generation=2),  # rows that were deleted meanwhile are stored again after a rewind
    ]
    assert len({token(some), *others}) == 5


async def test_one_server_gets_no_token_and_three_replicas_wait_for_most() -> None:
    some = batch((0, 1))
    assert (await replicas_of("ReplacingMergeTree")).insert_settings(some, _TOPIC, 1) == {}
    two = (await replicas_of("ReplicatedReplacingMergeTree")).insert_settings(some, _TOPIC, 1)
    assert set(two) == {"insert_deduplication_token"}
    three = (await replicas_of("ReplicatedReplacingMergeTree", 3)).insert_settings(some, _TOPIC, 1)
    assert three["insert_quorum"] == "auto"


async def test_a_host_without_the_keeper_does_not_say_how_many_replicas_there_are() -> None:
    with pytest.raises(UnavailableError, match="Keeper"):
        await replicas_of("ReplicatedReplacingMergeTree", 0)


def test_the_token_of_an_insert_with_a_fence_is_heeded_on_servers_that_would_ignore_it() -> None:
    names = ("insert_deduplicate", "deduplicate_insert_select", "max_insert_threads")
    server = SimpleNamespace(server_settings={name: SimpleNamespace(readonly=0) for name in names})
    server.server_settings["max_insert_threads"].readonly = 1  # by the user's profile
    sent = heeded({"insert_deduplication_token": "t"}, server)
    assert sent["deduplicate_insert_select"] == "enable_even_for_bad_queries"
    assert sent.keys() == {"insert_deduplication_token", "insert_deduplicate", "deduplicate_insert_select"}
    assert heeded({"async_insert": 0}, server) == {"async_insert": 0}
