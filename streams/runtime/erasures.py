"""The list of what was erased, for roles that ask it for each message: read again when it has changed."""

from __future__ import annotations

import asyncio

import structlog

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.erasure.erased_list import FRESH_SECONDS, ErasedRows
from streams.core.errors import ConfigurationError, LabelstreamError
from streams.core.messages import Row
from streams.core.settings import Settings
from streams.core.times import micros_of
from streams.privacy.erasure import NOTHING, ErasureList
from streams.runtime.result_tables import ResultTables

log = structlog.get_logger()

_FIRST_SECONDS = 5.0


class KnownErasures:
    """The list as it was a second ago. While ClickHouse is away it is the last one: nothing can be erased
    then. ``read``: whether it was ever read.
    """

    def __init__(self, tables: ResultTables) -> None:
        self.read = False
        self._tables = tables
        self._list: ErasureList = NOTHING
        self._rows: tuple[ClickHouseClient, ErasedRows] | None = None
        self._problem: ConfigurationError | None = None
        self._said = ""

    def known(self) -> ErasureList:
        """What is known of it.

        Raises:
            ConfigurationError: it was made with a `PRIVACY_SECRET` that is not set here, so that nobody can
                tell what was erased.
        """
        if self._problem is not None:
            raise self._problem
        return self._list

    def edition(self) -> object:
        """Another object when something was erased since."""
        return self._list

    def covers(self, row: Row) -> bool:
        """Whether ``row`` was erased. Raises as `known`."""
        return self.known().covers(row.row_id, row.user_id, micros_of(row.created_at))

    async def begin(self) -> None:
        """Read it once; if ClickHouse is away go on without it. Raises as `known`."""
        try:
            async with asyncio.timeout(_FIRST_SECONDS):
                await self._refresh()
        except TimeoutError:
            log.warning("erasure_list_not_read", reason="ClickHouse does not answer")
        self.known()

    async def run(self) -> None:
        """Keep it up to date, until cancelled."""
        while True:
            await self._refresh()
            await asyncio.sleep(FRESH_SECONDS)

    async def now(self) -> ErasureList:
        """As it is now.

        Raises:
            UnavailableError: ClickHouse does not answer.
            ConfigurationError: as `known`, or there is no ClickHouse, or it does not let us in.
        """

        async def look(client: ClickHouseClient, settings: Settings) -> ErasureList:
            if self._rows is None or self._rows[0] is not client:
                self._rows = client, ErasedRows(client, settings)
            return await self._rows[1].now()

        self._list = await self._tables.ask(look)
        self.read, self._problem = True, None
        return self._list

    async def _refresh(self) -> None:
        try:
            await self.now()
            self._said = ""
        except LabelstreamError as error:
            if isinstance(error, ConfigurationError) and error.setting == "PRIVACY_SECRET":
                self._problem = error
            if str(error) != self._said:
                log.warning("erasure_list_not_read", reason=str(error))
            self._said = str(error)
