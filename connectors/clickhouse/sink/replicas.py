"""What makes inserts and looks exact where the result tables have replicas.

Before a look the host that is asked catches up with the others. A repeated insert has the token of the first
one. The Keeper keeps tokens for all replicas: what one of them has stored meanwhile, the others pass over.

The token is of the messages' topic, partitions and offsets, and of the group's generation. Without that, rows
that somebody deleted and has stored again, by rewinding the group, would be passed over too.
"""

from __future__ import annotations

from array import array
from hashlib import blake2b
from typing import Any
from uuid import UUID

from connectors.clickhouse.client.catch_up import REPLICATED, SHARED, catch_up
from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.reading import may_set
from connectors.clickhouse.schema.grants import refuse_engines
from connectors.clickhouse.schema.tables import STORED
from connectors.clickhouse.sink.batch import Batch
from streams.core.errors import UnavailableError

# How long an insert waits until most replicas have it; shorter than INSERT_SECONDS.
_QUORUM_MS = 3000
# From so many replicas on an insert waits for most of them: one that is away then stops nothing.
_QUORUM_REPLICAS = 3
# An insert with a fence is an INSERT SELECT, whose token servers ignored by default from 26.1 until that was
# mended in 26.3, and ignore where a profile says so. Before 24.3 several streams shared one token, and the
# rows of all but one were passed over.
_HEEDED = {
    "insert_deduplicate": 1,
    "deduplicate_insert": "enable",
    "deduplicate_insert_select": "enable_even_for_bad_queries",
    "max_insert_threads": 1,
}


class Replicas:
    """The stored tables of one database, as the current host has them."""

    def __init__(self, client: ClickHouseClient, database: str) -> None:
        self._client = client
        self._database = database
        self._engines: dict[str, str] | None = None
        self._quorum = False

    @property
    def shared(self) -> bool:
        """Whether they are on ClickHouse Cloud: many servers behind one address, which share the tables."""
        return any(engine.startswith(SHARED) for engine in (self._engines or {}).values())

    @property
    def _replicated(self) -> bool:
        return any(engine.startswith(REPLICATED) for engine in (self._engines or {}).values())

    async def learn(self, *, again: bool = False) -> None:
        """Look the engines up, if they are not known or have to be asked for ``again``.

        Raises:
            UnavailableError, AccessError: as the client.
            ConfigurationError: they do not keep their rows themselves.
        """
        if self._engines is not None and not again:
            return
        given = {"database": self._database, "names": list(STORED)}
        rows = await self._client.rows(
            "SELECT name, engine FROM system.tables\n"
            "WHERE database = {database:String} AND name IN {names:Array(String)}",
            given,
        )
        engines = {str(name): str(engine) for name, engine in rows}
        refuse_engines(self._database, engines)
        self._engines = engines
        if self._replicated:
            ((replicas, seen),) = await self._client.rows(
                "SELECT min(total_replicas), count() FROM system.replicas\n"
                "WHERE database = {database:String} AND table IN {names:Array(String)}",
                given,
            )
            if int(seen) and not int(replicas):
                raise UnavailableError(
                    "the host has lost the Keeper: it does not know its replicas", setting="CLICKHOUSE_HOST"
                )
            self._quorum = int(replicas) >= _QUORUM_REPLICAS

    async def catch_up(self, table: str) -> str:
        """See `client.catch_up`."""
        await self.learn()
        return await catch_up(self._client, self._database, table, (self._engines or {}).get(table, ""))

    def insert_settings(self, batch: Batch, topic_id: UUID, generation: int) -> dict[str, Any]:
        """What an insert of ``batch`` says beside its data."""
        if not (self._replicated or self.shared):
            return {}
        settings: dict[str, Any] = {"insert_deduplication_token": _token(batch, topic_id, generation)}
        if self._quorum:
            settings |= {"insert_quorum": "auto", "insert_quorum_timeout": _QUORUM_MS}
        return settings


def heeded(settings: dict[str, Any], driver: Any) -> dict[str, Any]:
    """The ``settings`` of an insert, with those that make the server of ``driver`` heed its token."""
    if "insert_deduplication_token" not in settings:
        return settings
    return settings | {name: value for name, value in _HEEDED.items() if may_set(driver, name)}


def _token(batch: Batch, topic_id: UUID, generation: int) -> str:
    places = array("q")
    for record in batch.records:
        places.append(record.partition)
        places.append(record.offset)
    return f"labelstream/{topic_id}/{generation}/{blake2b(places.tobytes(), digest_size=16).hexdigest()}"
