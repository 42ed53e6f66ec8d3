"""An insert that arrives late is not stored.

A request may outlive its sender's patience: in a proxy that keeps whole requests, or in the socket of a
server that stood still. Nobody can end what the server has not seen yet. So each insert carries the moment
until which the server may begin it, on the server's own clock; one that begins later fails. When that
moment has passed, and nothing is listed, nothing can come any more.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import structlog

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.hosts import Host
from connectors.clickhouse.client.sql import literal, quoted
from connectors.clickhouse.schema.columns import TableColumn
from streams.core.errors import AccessError, LabelstreamError, UnavailableError

log = structlog.get_logger()

_LATE = "labelstream: this insert began too late"
# The lease is at most 0.6 of the session old when an insert goes out: 3.6 s of 6. With 2 s more it has begun
# before anybody else owns the partitions.
FIRST_SECONDS, LAST_SECONDS = 2.0, 4.0
_CLOCK_SECONDS = 60.0


class Fence:
    """The moments until which inserts may begin, and the words of SQL that see to it."""

    def __init__(self, client: ClickHouseClient) -> None:
        self._client = client
        # Whose clock it is, as soon as it is set, and how often hosts had been left then.
        self.host: Host
        self.moves = -1
        self._ahead: float | None = None  # the server's clock less our monotonic one, never too large
        self._measured = 0.0
        self._seconds = FIRST_SECONDS
        self._allowed = True

    async def set_clock(self) -> None:
        """Look at the server's clock, if that was long ago or it was found to be wrong.

        Raises:
            UnavailableError: as the client.
        """
        hosts = self._client.hosts
        moved, old = hosts.moves != self.moves, time.monotonic() - self._measured > _CLOCK_SECONDS
        if self._ahead is None or moved or old:
            moves, host = hosts.moves, hosts.current
            clock = await self.clock()
            if hosts.moves != moves:
                raise UnavailableError("the host was left during a look", setting="CLICKHOUSE_HOST")
            self.moves, self.host, self._measured = moves, host, time.monotonic()
            self._ahead = clock - self._measured

    def moment(self) -> float:
        """Until when an insert that is sent now may begin: seconds since 1970 on the server's clock, which
        was set before."""
        assert self._ahead is not None
        return time.monotonic() + self._ahead + self._seconds

    async def clock(self, client: ClickHouseClient | None = None) -> float:
        """The server's clock, seconds since 1970. ``client``: connected to another host."""
        ((micros,),) = await (client or self._client).rows("SELECT toUnixTimestamp64Micro(now64(6))")
        return int(micros) / 1e6

    def insert(self, target: str, columns: Sequence[TableColumn], moment: float) -> bytes:
        """The statement before an insert's data, which is an Arrow stream of ``columns``."""
        names = ", ".join(quoted(column.name) for column in columns)
        if not self._allowed:
            return f"INSERT INTO {target} ({names}) FORMAT ArrowStream\n".encode()
        structure = ", ".join(f"{quoted(column.name)} {column.type}" for column in columns)
        return (
            f"INSERT INTO {target} ({names}) SELECT * FROM input({literal(structure)}) "
            f"WHERE throwIf(now64(6) > fromUnixTimestamp64Micro({int(moment * 1e6)}), {literal(_LATE)}) = 0 "
            "FORMAT ArrowStream\n"
        ).encode()

    def late(self, failure: LabelstreamError) -> bool:
        """Whether ``failure`` says that the insert came too late. Then the next ones get more time: the
        clock may have moved, or the server is slow to begin."""
        if _LATE not in str(failure):
            return False
        self._ahead, self._seconds = None, min(self._seconds * 2, LAST_SECONDS)
        return True

    def refused(self, failure: LabelstreamError) -> bool:
        """Whether the user lacks the right that ``input`` asks for; inserts go without it from now on."""
        if not (
            self._allowed and isinstance(failure, AccessError) and "CREATE TEMPORARY TABLE" in str(failure)
        ):
            return False
        self._allowed = False
        log.warning(
            "inserts_are_not_fenced",
            reason="the user may not use input(): an insert that a proxy delivers late can be stored twice",
            fix="GRANT CREATE TEMPORARY TABLE ON *.* TO the user of CLICKHOUSE_USERNAME",
        )
        return True

    def on_time(self) -> None:
        """An insert was stored."""
        self._seconds = FIRST_SECONDS
