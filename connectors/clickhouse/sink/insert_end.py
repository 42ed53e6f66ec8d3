"""Ends inserts on the hosts where they may run, and says when none can come any more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, NamedTuple

import structlog

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.hosts import Host
from connectors.clickhouse.client.sql import literal
from connectors.clickhouse.schema.tables import INSERT_SECONDS
from connectors.clickhouse.sink.insert_fence import LAST_SECONDS, Fence
from streams.core.errors import AccessError, PermanentError, UnavailableError

log = structlog.get_logger()

_LOOK_AGAIN = 0.1
# So long a host that answers may list an insert; see `_end`.
_LOOK_SECONDS = INSERT_SECONDS + 2.0
# After the last moment at which an insert may begin, on a host that cannot be asked whether it has ended.
_LONGEST = INSERT_SECONDS + 1.0
# ClickHouse Cloud: behind one address are many servers, and their cluster has this name.
_EVERYWHERE = "clusterAllReplicas('default', system.processes)"


class Sent(NamedTuple):
    """An insert that was sent to ``host``, where it may begin until ``moment``: seconds since 1970 by that
    host's clock. It has surely ended at ``latest``, by our monotonic clock.
    """

    moment: float
    host: Host
    latest: float


class InsertEnd:
    """Ends the inserts of one sink."""

    def __init__(self, client: ClickHouseClient, fence: Fence) -> None:
        self._client = client
        self._fence = fence
        self._alone: dict[Host, ClickHouseClient] = {}
        self.shared = False  # see `Replicas.shared`

    def sent(self, moment: float, host: Host) -> Sent:
        """An insert that is about to be sent."""
        return Sent(moment, host, time.monotonic() + LAST_SECONDS + _LONGEST)

    async def others(self, host: Host, prefix: str, mine: str, since: float) -> None:
        """End the inserts on ``host`` whose ids begin with ``prefix`` and not with ``mine``. ``since``: when
        their sender had lost its partitions, by our monotonic clock.

        Raises:
            UnavailableError: it does not answer, and they may still run there.
        """
        condition = f"startsWith(query_id, {literal(prefix)}) AND NOT startsWith(query_id, {literal(mine)})"
        latest = since + LAST_SECONDS + _LONGEST
        try:
            await self._in_time(latest, self._end(self._at(host), condition))
        except UnavailableError:
            if not self._given_up(latest):
                raise

    async def one(self, query_id: str, sent: Sent) -> None:
        """Return when the insert has ended, or can no longer begin.

        Raises:
            UnavailableError: its host does not answer, and it may still run there.
        """
        try:
            await self._in_time(sent.latest, self._over(self._at(sent.host), query_id, sent.moment))
        except UnavailableError:
            if not self._given_up(sent.latest):
                raise

    async def close(self) -> None:
        """Close the connections to single hosts."""
        for client in self._alone.values():
            await client.close()

    async def _over(self, client: ClickHouseClient, query_id: str, moment: float) -> None:
        condition = f"query_id = {literal(query_id)}"
        while not await self._end(client, condition):
            if await self._fence.clock(client) > moment:
                # Once more: it may have begun between the look and the clock.
                await self._end(client, condition)
                return
            await asyncio.sleep(_LOOK_AGAIN)

    async def _in_time(self, latest: float, asking: Coroutine[Any, Any, Any]) -> None:
        """Ask a host. One of several is not waited for longer than until ``latest``: it may be paused."""
        if not self._client.hosts.several:
            await asking
            return
        try:
            await asyncio.wait_for(asking, max(_LOOK_SECONDS, latest - time.monotonic()))
        except TimeoutError as error:
            raise UnavailableError("the host does not answer in time", setting="CLICKHOUSE_HOST") from error

    def _given_up(self, latest: float) -> bool:
        """Whether a host that does not answer, or does not tell, need not be waited for: there are others."""
        return (self._client.hosts.several or self.shared) and time.monotonic() > latest

    def _at(self, host: Host) -> ClickHouseClient:
        if not self._client.hosts.several:
            return self._client
        if host not in self._alone:
            self._alone[host] = self._client.at(host)
        return self._alone[host]

    async def _end(self, client: ClickHouseClient, condition: str) -> bool:
        """Kill the inserts for which ``condition`` holds, and return when they have ended: whether there
        were any."""
        look, found = f"KILL QUERY WHERE {condition} TEST", None
        try:
            if self.shared:
                look = f"SELECT query_id FROM {_EVERYWHERE} WHERE {condition}"
                await client.command(f"KILL QUERY ON CLUSTER 'default' WHERE {condition} ASYNC")
            else:
                found = await client.command(f"KILL QUERY WHERE {condition} ASYNC")
        except (AccessError, PermanentError):
            # Not allowed to: then they end by their own limit, and may be seen to do so.
            look = f"SELECT query_id FROM system.processes WHERE {condition}"
        deadline = time.monotonic() + INSERT_SECONDS + 1
        while listed := await self._listed(client, look):
            found = listed
            if time.monotonic() > deadline:
                # One that waits for a client that is gone notices the kill later, and stores nothing.
                log.warning("insert_still_listed", condition=condition)
                break
            await asyncio.sleep(_LOOK_AGAIN)
        return bool(found)

    async def _listed(self, client: ClickHouseClient, look: str) -> Any:
        try:
            return await client.command(look)
        except AccessError as error:
            if not self.shared:
                raise
            # Then their time is waited for, as where a host does not answer.
            raise UnavailableError(
                f"inserts on other servers cannot be seen, so that each takeover takes 9 s longer; "
                f"GRANT CLUSTER, REMOTE ON *.* TO the user: {error}",
                setting="CLICKHOUSE_USERNAME",
            ) from error
