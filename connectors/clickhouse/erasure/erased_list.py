"""The list of what was erased, in the table `erasures`."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence

from connectors.clickhouse.client.catch_up import catch_up, engine_of
from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.errors import TABLE_MISSING, code_of
from connectors.clickhouse.client.sql import bound_batches, qualified
from connectors.clickhouse.erasure.mutation import mutate
from connectors.clickhouse.schema.tables import ERASURES
from streams.core.errors import ConfigurationError
from streams.core.settings import Settings
from streams.privacy.erasure import NOTHING, ErasedId, ErasureList, Kind, digests_of, key_for
from streams.privacy.pseudonyms import pseudonyms_of

# So old may be what a process knows of the list when it stores or publishes a row.
FRESH_SECONDS = 1.0
_HASH = "cityHash64(kind, digest)"

Erased = Callable[[], Awaitable[ErasureList]]


async def nothing_erased() -> ErasureList:
    """Where nobody erases."""
    return NOTHING


class ErasedRows:
    """The list as it was at most FRESH_SECONDS ago."""

    def __init__(self, client: ClickHouseClient, settings: Settings) -> None:
        self._client = client
        self._database = settings.result_database
        self._pseudonyms = pseudonyms_of(settings)
        self._known: ErasureList = NOTHING
        self._state: tuple[int, int] | None = None
        self._asked_at = float("-inf")
        self._asking = asyncio.Lock()
        self._engine = ""

    async def now(self) -> ErasureList:
        """The list. Where nothing was added it costs a question for a number, once a second.

        Raises:
            UnavailableError: ClickHouse does not answer.
            ConfigurationError: it was made with a `PRIVACY_SECRET` that is not set here.
        """
        async with self._asking:
            asked_at = time.monotonic()
            if asked_at - self._asked_at > FRESH_SECONDS:
                state = await self._look()
                if state != self._state:
                    entries = await read_entries(self._client, self._database) if state[0] else ()
                    self._known = ErasureList((one for one, _ in entries), self._pseudonyms)
                    self._state = state
                self._asked_at = asked_at
            return self._known

    async def _look(self) -> tuple[int, int]:
        self._engine = self._engine or await engine_of(self._client, self._database, ERASURES)
        caught_up = await catch_up(self._client, self._database, ERASURES, self._engine)
        try:
            rows = await self._client.rows(
                "SELECT count(), toUnixTimestamp64Micro(max(at)) FROM "
                + qualified(self._database, ERASURES)
                + caught_up
            )
        except ConfigurationError as error:
            if code_of(error) != TABLE_MISSING:
                raise
            return 0, 0  # of an older release, which could not erase
        return int(rows[0][0]), int(rows[0][1])


async def read_entries(client: ClickHouseClient, database: str) -> list[tuple[ErasedId, str]]:
    """All entries, each with the nonce of its erasure, which is empty once that is done."""
    caught_up = await catch_up(client, database, ERASURES)
    rows = await client.rows(
        "SELECT toString(kind), digest, key, toUnixTimestamp64Micro(until), nonce\n"
        f"FROM {qualified(database, ERASURES)} FINAL{caught_up}"
    )
    return [
        (ErasedId(kind, str(digest), str(key), int(until)), str(nonce))
        for kind, digest, key, until, nonce in rows
    ]


async def begin_erasure(
    client: ClickHouseClient, settings: Settings, kind: Kind, ids: Sequence[str], until: int
) -> str:
    """Write the entries of ``ids``, which all are one user's or one row's. Returns the nonce from which the
    ids of what is left are made: that of any erasure that was cut off, for it may have begun with the same
    rows, or a new one.

    ``until``: the time of the last row that it covers, microseconds since 1970.
    """
    known = await read_entries(client, settings.result_database)
    key, digests = _digests(settings, known, ids)
    nonce = next((nonce for _, nonce in known if nonce), "") or secrets.token_hex(16)
    until = max([until, *(one.until for one, _ in known if one.kind == kind and one.digest in digests)])
    await _write(client, settings, kind, [(digest, until) for digest in digests], key, nonce)
    return nonce


async def add_rows(
    client: ClickHouseClient, settings: Settings, rows: Sequence[tuple[str, int]], nonce: str = ""
) -> None:
    """Write an entry for each of ``rows`` (id, time in microseconds since 1970), which are later than the
    entry that they belong to.
    """
    if rows:
        known = await read_entries(client, settings.result_database)
        key, digests = _digests(settings, known, [row_id for row_id, _ in rows])
        pairs = [(digest, micros) for digest, (_, micros) in zip(digests, rows, strict=True)]
        for some in bound_batches(pairs, lambda pair: pair[0]):
            await _write(client, settings, "row", some, key, nonce)


async def end_erasure(client: ClickHouseClient, settings: Settings, kind: Kind, ids: Sequence[str]) -> None:
    """Forget the nonce of ``ids``: from then on nobody can tell whose row it was that something is left of.
    Not by an insert: the former line would stay until a merge. No digest stands in the statement.
    """
    database, pseudonyms = settings.result_database, pseudonyms_of(settings)
    keys = {one.key for one, _ in await read_entries(client, database)}
    digests = [digest for one in ids for digest in digests_of(one, keys, pseudonyms)]
    hashes = await client.rows(
        f"SELECT DISTINCT {_HASH} FROM {qualified(database, ERASURES)}\n"
        "WHERE kind = {kind:String} AND digest IN {digests:Array(String)} AND nonce != ''",
        {"kind": kind, "digests": digests},
    )
    if hashes:
        await mutate(
            client,
            database,
            ERASURES,
            f"UPDATE nonce = '' WHERE {_HASH} IN {{hashes:Array(UInt64)}}",
            {"hashes": [int(number) for (number,) in hashes]},
        )


def _digests(
    settings: Settings, known: Sequence[tuple[ErasedId, str]], ids: Sequence[str]
) -> tuple[str, list[str]]:
    """The key of new entries, and the digest of each of ``ids`` with it."""
    pseudonyms = pseudonyms_of(settings)
    key = key_for((one for one, _ in known), pseudonyms)
    return key, [digests_of(one, [key], pseudonyms)[0] for one in ids]


async def _write(
    client: ClickHouseClient,
    settings: Settings,
    kind: Kind,
    entries: Sequence[tuple[str, int]],
    key: str,
    nonce: str,
) -> None:
    """``entries``: digest, and until when."""
    await client.command(
        f"INSERT INTO {qualified(settings.result_database, ERASURES)} "
        "(kind, digest, key, until, nonce)\n"
        "SELECT {kind:String}, one.1, {key:String},\n"
        "    fromUnixTimestamp64Micro(one.2, 'UTC'), {nonce:String}\n"
        "FROM (SELECT arrayJoin(arrayZip({digests:Array(String)}, {untils:Array(Int64)})) AS one)",
        {
            "kind": kind,
            "digests": [digest for digest, _ in entries],
            "untils": [until for _, until in entries],
            "key": key,
            "nonce": nonce,
        },
    )
