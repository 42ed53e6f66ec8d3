"""Inserts that happen once, however often they have to be tried.

After a time-out or a cut connection nobody knows what the server stored, or will still store. So the
insert is ended there first, then the offsets that the table holds are read, and only the others are
inserted again. Everything is decided by offsets: no deduplication window, no token.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, TypeVar
from uuid import UUID

import pyarrow as pa
import structlog

from connectors.clickhouse.batch import Batch, Refused
from connectors.clickhouse.client import ClickHouseClient
from connectors.clickhouse.ddl import quoted
from connectors.clickhouse.errors import code_of
from connectors.clickhouse.exact import OffsetSet, stored_offsets
from streams.errors import (
    AccessError,
    ConfigurationError,
    LabelstreamError,
    LeaseLostError,
    OverloadedError,
    PermanentError,
    RefusedError,
    UnavailableError,
)
from streams.ports import Lease
from streams.waiting import until_available

log = structlog.get_logger()

T = TypeVar("T")

# Shorter than the group's session of 6 s: what an expelled owner had begun has ended when that is over.
INSERT_SECONDS = 4
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 3.0
# A server that answers, but fails on an insert of this many rows twice, gets fewer at once.
_MANY = 1000
# So often the same unknown error of a server that otherwise answers: then the rows are at fault.
_STUBBORN = 5
_TIMEOUTS = {159, 160, 209, 210}
_PIECE = 1 << 20
_LOOK_AGAIN = 0.1


class _OverError(PermanentError):
    """The generation is over; `until_available` would wait on a LeaseLostError."""


async def while_ours(lease: Lease, generation: int, what: str, attempt: Callable[[], Awaitable[T]]) -> T:
    """The result of ``attempt``, tried until its dependency is there, as long as we own the partitions.

    Raises:
        LeaseLostError: we no longer do.
    """

    async def guarded() -> T:
        if lease.generation != generation:
            raise _OverError(f"generation {generation} of the consumer group is over")
        try:
            return await attempt()
        except LeaseLostError as error:
            raise _OverError(str(error)) from error

    try:
        return await until_available(what, guarded)
    except _OverError as error:
        raise LeaseLostError(str(error)) from error


class Inserter:
    """Inserts into the result tables for one sink."""

    def __init__(
        self,
        client: ClickHouseClient,
        writer: ClickHouseClient,
        database: str,
        lease: Lease,
        *,
        owner: str,
        counts: Counter[str],
    ) -> None:
        """``writer`` should give up soon after INSERT_SECONDS. ``owner``: the consumer group's name, by
        which the inserts of all its members are known on the server."""
        self._client = client
        self._writer = writer
        self._database = database
        self._lease = lease
        self._prefix = f"labelstream-sink/{database}/{owner}/"
        self._counts = counts
        self._said = False

    async def end_others(self, generation: int) -> None:
        """End the inserts of former owners, so that none of them can finish behind our back."""
        mine = f"{self._prefix}{generation}/"
        await self._patiently(
            generation,
            lambda: self._end(
                f"startsWith(query_id, {_text(self._prefix)}) AND NOT startsWith(query_id, {_text(mine)})"
            ),
        )

    async def stored(
        self, table: str, topic_id: UUID, spans: Mapping[int, tuple[int, int]], generation: int
    ) -> dict[int, OffsetSet]:
        """What ``table`` holds of a topic's incarnation; see `stored_offsets`. Waits for ClickHouse."""
        return await self._patiently(
            generation, lambda: stored_offsets(self._client, self._database, table, topic_id, spans)
        )

    async def insert(self, table: str, batch: Batch, topic_id: UUID, generation: int) -> list[Refused]:
        """Insert ``batch`` (of one topic's incarnation), whatever happens between.

        Waits while ClickHouse is away or somebody must change a setting. Returns the rows that the
        table refuses, found by halving.

        Raises:
            LeaseLostError: the partitions are no longer ours; any part of the batch may be stored.
        """
        pause, tries = _FIRST_PAUSE, 0
        while len(batch):
            query_id = f"{self._prefix}{generation}/{uuid.uuid4()}"
            failure = await self._try(table, batch, query_id, generation)
            if failure is None:
                self._counts["inserts"] += 1
                self._counts[f"stored:{table}"] += len(batch)
                self._say_back()
                break
            tries += 1
            left = await self._missing(table, batch, topic_id, query_id, generation)
            self._counts[f"stored:{table}"] += len(batch) - len(left)
            batch = left
            if not len(batch):
                break
            if _never_heals(failure, tries):
                if len(batch) == 1:
                    return [_refused(batch, failure)]
                return await self._halves(table, batch, topic_id, generation)
            self._counts["retries"] += 1
            self._say_away(failure)
            if tries > 1 and len(batch) > _MANY and not isinstance(failure, ConfigurationError):
                return await self._halves(table, batch, topic_id, generation)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        return []

    async def _halves(self, table: str, batch: Batch, topic_id: UUID, generation: int) -> list[Refused]:
        half = len(batch) // 2
        first = await self.insert(table, batch.slice(0, half), topic_id, generation)
        return first + await self.insert(table, batch.slice(half, len(batch) - half), topic_id, generation)

    async def _try(self, table: str, batch: Batch, query_id: str, generation: int) -> LabelstreamError | None:
        body = await asyncio.to_thread(_encoded, batch.rows)
        names = list(batch.rows.column_names)
        settings = {"async_insert": 0, "query_id": query_id, "max_execution_time": INSERT_SECONDS}

        def put(driver: Any) -> None:
            driver.raw_insert(
                f"{quoted(self._database)}.{quoted(table)}",
                column_names=names,
                # An iterator: clickhouse-connect sends a body of bytes once more when the connection
                # is cut, although the first may have been stored.
                insert_block=_pieces(body),
                settings=settings,
                fmt="ArrowStream",
            )

        await self._lease.hold(generation)
        sending = asyncio.ensure_future(asyncio.to_thread(self._writer.call, put))
        try:
            await asyncio.shield(sending)
        except asyncio.CancelledError:
            # The thread goes on: whoever is next must not look before it has ended.
            await asyncio.wait([sending], timeout=INSERT_SECONDS)
            sending.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise
        except LabelstreamError as error:
            return error
        return None

    async def _missing(
        self, table: str, batch: Batch, topic_id: UUID, query_id: str, generation: int
    ) -> Batch:
        """What the table does not hold of ``batch``, once its insert has surely ended."""
        await self._patiently(generation, lambda: self._end(f"query_id = {_text(query_id)}"))
        spans: dict[int, tuple[int, int]] = {}
        for record in batch.records:
            start, end = spans.get(record.partition, (record.offset, record.offset + 1))
            spans[record.partition] = (min(start, record.offset), max(end, record.offset + 1))
        stored = await self.stored(table, topic_id, spans, generation)
        return batch.where(lambda record: record.offset not in stored[record.partition])

    async def _end(self, condition: str) -> None:
        """Kill the inserts for which ``condition`` holds, and return when they have ended."""
        look = f"KILL QUERY WHERE {condition} TEST"
        try:
            await self._client.command(f"KILL QUERY WHERE {condition} ASYNC")
        except (AccessError, PermanentError):
            # Not allowed to: then they end by their own limit, and may be seen to do so.
            look = f"SELECT query_id FROM system.processes WHERE {condition}"
        deadline = time.monotonic() + INSERT_SECONDS + 1
        while await self._client.command(look):
            if time.monotonic() > deadline:
                # One that waits for a client that is gone notices the kill later, and stores nothing.
                log.warning("insert_still_listed", condition=condition)
                return
            await asyncio.sleep(_LOOK_AGAIN)

    async def _patiently(self, generation: int, attempt: Callable[[], Awaitable[T]]) -> T:
        return await while_ours(self._lease, generation, "ClickHouse", attempt)

    def _say_away(self, failure: LabelstreamError) -> None:
        if not self._said:
            self._said = True
            log.warning(
                "waiting for ClickHouse",
                reason=str(failure),
                setting=getattr(failure, "setting", "") or "CLICKHOUSE_HOST",
                fix=getattr(failure, "fix", "") or None,
            )

    def _say_back(self) -> None:
        if self._said:
            self._said = False
            log.info("ClickHouse is there")


def _never_heals(failure: LabelstreamError, tries: int) -> bool:
    """Whether the rows are at fault. A time-out, overload or missing right never is theirs."""
    if isinstance(failure, RefusedError):
        return True
    if isinstance(failure, (OverloadedError, ConfigurationError)) or tries < _STUBBORN:
        return False
    code = code_of(failure)
    return isinstance(failure, UnavailableError) and code is not None and code not in _TIMEOUTS


def _refused(batch: Batch, failure: LabelstreamError) -> Refused:
    (row,) = batch.rows.slice(0, 1).to_pylist()
    reason = failure.reason if isinstance(failure, PermanentError) else "refused-by-table"
    return Refused(
        batch.records[0], reason, str(failure), str(row["row_id"]), str(row.get("label_version") or "")
    )


def _encoded(rows: Any) -> memoryview:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        # One batch: the server then stores it as one part, whole or not at all.
        writer.write_table(rows.combine_chunks(), max_chunksize=max(1, rows.num_rows))
    return memoryview(sink.getvalue())


def _pieces(body: memoryview) -> Iterator[bytes]:
    for start in range(0, len(body), _PIECE):
        yield bytes(body[start : start + _PIECE])


def _text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
