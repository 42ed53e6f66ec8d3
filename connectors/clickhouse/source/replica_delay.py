"""A replica of the source table that is behind the others is not read.

Rows that it lacks appear late, as those of any late writer do: found again within POLL_LOOKBACK_SECONDS, and
not after it. So a host whose replica is half of that behind is left for the next one, and where all of them
are, the poller waits.
"""

from __future__ import annotations

import time

import structlog

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.source.inspection import FoundTable
from connectors.clickhouse.source.shards import BEHIND
from streams.core.errors import AccessError, UnavailableError
from streams.core.settings import Settings

log = structlog.get_logger()

# Of the look-back window: how long the delay that was found is believed.
_BELIEVED = 1 / 8


class ReplicaDelay:
    """How far the current host's replica is behind."""

    def __init__(self, client: ClickHouseClient, settings: Settings) -> None:
        self._client = client
        self._database, self._table = settings.clickhouse_database, settings.clickhouse_table
        self._window = settings.poll_lookback_seconds
        self._looked_at = float("-inf")
        self._moves = -1
        self._allowed = True

    async def refuse(self, found: FoundTable) -> None:
        """Call it before each reading. A table without replicas costs nothing.

        Raises:
            UnavailableError: the replica is too far behind; the next try asks another host.
        """
        if not (self._allowed and found.engine.startswith("Replicated")):
            return
        moves, now = self._client.hosts.moves, time.monotonic()
        if moves == self._moves and now - self._looked_at < self._window * _BELIEVED:
            return
        host = self._client.hosts.current
        try:
            rows = await self._client.rows(
                "SELECT absolute_delay, is_readonly FROM system.replicas\n"
                "WHERE database = {database:String} AND table = {table:String}",
                {"database": self._database, "table": self._table},
            )
        except AccessError as error:
            # A right that older releases did not need; most sources are replicated.
            self._allowed = False
            log.warning(
                "replica_delay_not_known",
                reason=str(error)[:300],
                effect="rows that a replica shows later than POLL_LOOKBACK_SECONDS are not found",
                fix="GRANT SELECT ON system.replicas TO the user of CLICKHOUSE_USERNAME",
            )
            return
        for delay, readonly in rows:
            if int(readonly) or int(delay) > self._window * BEHIND:
                told = "has lost the Keeper" if int(readonly) else f"is {int(delay)} s behind the others"
                problem = f"the replica of {self._database}.{self._table} on {host} {told}"
                self._client.hosts.leave(host, problem)
                raise UnavailableError(problem, setting="CLICKHOUSE_HOST")
        self._moves, self._looked_at = moves, now
