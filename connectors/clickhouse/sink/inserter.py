"""Inserts that happen once, however often they have to be tried.

After a time-out or a cut connection nobody knows what the server stored, or will still store. So the
insert is ended there first (`insert_end.py`, `insert_fence.py`: also one that has not arrived yet), then the
offsets that the table holds are read, and only the others are inserted again. On one server everything is
decided by offsets: no deduplication window, no token. What replicas need beside that is in `replicas.py`.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

import pyarrow as pa
import structlog

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.errors import SERVERS_FAULT, code_of
from connectors.clickhouse.client.sql import qualified
from connectors.clickhouse.erasure.erased_list import Erased, nothing_erased
from connectors.clickhouse.schema.columns import ADDED, TableColumn, columns_of
from connectors.clickhouse.schema.tables import INSERT_SECONDS, STORED
from connectors.clickhouse.sink.batch import Batch, Refused
from connectors.clickhouse.sink.batcher import FEWEST_ROWS
from connectors.clickhouse.sink.erased_rows import without_erased
from connectors.clickhouse.sink.insert_end import InsertEnd, Sent
from connectors.clickhouse.sink.insert_fence import Fence
from connectors.clickhouse.sink.replicas import Replicas, heeded
from connectors.clickhouse.sink.stored_offsets import OffsetSet, stored_offsets
from streams.core.availability import until_available
from streams.core.errors import (
    LabelstreamError,
    LeaseLostError,
    OverloadedError,
    PermanentError,
    RefusedError,
    UnavailableError,
)
from streams.ports.kafka import Lease

log = structlog.get_logger()

T = TypeVar("T")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 3.0
# So often an unknown error of a server that otherwise answers: then the rows may be at fault.
_STUBBORN = 5
_TIMEOUTS = {159, 160, 209, 210}
_PIECE = 1 << 20


class SplitError(Exception):
    """Some of these rows are refused, or they are too many for the server: it should get fewer at once,
    so that the others are not kept waiting for long."""


class StuckError(Exception):
    """The server fails on these rows and on nothing else that we know of, yet nothing shows that they are at
    fault: a disk that is full fails in the same way. They must be tried again, together with others."""


class _ErasedError(Exception):
    """Some rows of the batch were erased meanwhile. ``kept``: the others."""

    def __init__(self, kept: Batch) -> None:
        super().__init__()
        self.kept = kept


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
        erased: Erased = nothing_erased,
    ) -> None:
        """``writer`` should give up soon after INSERT_SECONDS. ``owner``: the consumer group's name, by
        which the inserts of all its members are known on the server. ``erased``: what must not come back."""
        self._client = client
        self._writer = writer
        self._database = database
        self._lease = lease
        self._prefix = f"labelstream-sink/{database}/{owner}/"
        self._counts = counts
        self._erased = erased
        self._fence = Fence(client)
        self._insert_end = InsertEnd(client, self._fence)
        self._replicas = Replicas(client, database)
        self._said = False

    async def end_others(self, generation: int) -> None:
        """End the inserts of former owners, so that none of them can finish behind our back."""
        since, mine = time.monotonic(), f"{self._prefix}{generation}/"
        await self._patiently(generation, lambda: self._replicas.learn(again=True))
        self._insert_end.shared = self._replicas.shared
        for host in self._client.hosts.every:
            end = functools.partial(self._insert_end.others, host, self._prefix, mine, since)
            await self._patiently(generation, end)

    async def stored(
        self, table: str, topic_id: UUID, spans: Mapping[int, tuple[int, int]], generation: int
    ) -> dict[int, OffsetSet]:
        """What ``table`` holds of a topic's incarnation; see `stored_offsets`. Waits for ClickHouse."""

        async def look() -> dict[int, OffsetSet]:
            moves = self._client.hosts.moves
            settings = await self._replicas.catch_up(table)
            found = await stored_offsets(
                self._client, self._database, table, topic_id, spans, settings=settings
            )
            if self._client.hosts.moves != moves:
                raise UnavailableError("the host was left during a look", setting="CLICKHOUSE_HOST")
            return found

        return await self._patiently(generation, look)

    async def close(self) -> None:
        """Close what was opened here."""
        await self._insert_end.close()

    async def insert(self, table: str, batch: Batch, topic_id: UUID, generation: int) -> list[Refused]:
        """Insert ``batch`` (of one topic's incarnation), whatever happens between.

        Waits while ClickHouse is away or somebody must change a setting. Returns the rows that the
        table refuses.

        Raises:
            LeaseLostError: the partitions are no longer ours; any part of the batch may be stored.
            SplitError: more than FEWEST_ROWS, and they should come in smaller batches.
            StuckError: the server fails on them, and nobody knows whose fault that is.
            With each of these any part of the batch may be stored: begin again with what the table holds.
        """
        inserts = self._counts["inserts"]
        refused, known = await self._insert(table, batch, topic_id, generation, 0)
        if refused and not known and self._counts["inserts"] == inserts:
            raise StuckError(refused[0].error)
        return refused

    async def _insert(
        self, table: str, batch: Batch, topic_id: UUID, generation: int, tries: int
    ) -> tuple[list[Refused], bool]:
        """As `insert`; also says whether the server told that the rows are at fault. ``tries``: how often
        the same rows have failed already, among others."""
        pause = _FIRST_PAUSE
        while len(batch):
            query_id = f"{self._prefix}{generation}/{uuid.uuid4()}"
            await self._patiently(generation, self._fence.set_clock)
            await self._patiently(generation, self._replicas.learn)
            try:
                failure, sent = await self._try(table, batch, query_id, topic_id, generation)
            except _ErasedError as error:
                self._counts["erased"] += len(batch) - len(error.kept)
                batch = error.kept
                continue
            if failure is None:
                self._counts["inserts"] += 1
                self._counts[f"stored:{table}"] += len(batch)
                self._fence.on_time()
                self._say_back()
                break
            if self._fence.refused(failure):
                continue
            if self._fence.late(failure):
                failure = UnavailableError(str(failure), setting="CLICKHOUSE_HOST")
            else:
                tries += 1
            # With a code of ClickHouse's it is an answer: that insert has ended.
            if not isinstance(failure, RefusedError) and code_of(failure) is None:
                await self._patiently(generation, functools.partial(self._insert_end.one, query_id, sent))
            left = await self._missing(table, batch, topic_id, generation)
            self._counts[f"stored:{table}"] += len(batch) - len(left)
            batch = left
            if not len(batch):
                break
            at_fault = isinstance(failure, RefusedError)
            if at_fault or (tries >= _STUBBORN and _unknown(failure)):
                if len(batch) > FEWEST_ROWS:
                    raise SplitError(str(failure))
                if len(batch) == 1:
                    return [_refused(batch, failure)], at_fault
                return await self._halves(table, batch, topic_id, generation)
            self._counts["retries"] += 1
            self._say_away(failure)
            if tries > 1 and len(batch) > FEWEST_ROWS and _too_many(failure):
                raise SplitError(str(failure))
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        return [], True

    async def _halves(
        self, table: str, batch: Batch, topic_id: UUID, generation: int
    ) -> tuple[list[Refused], bool]:
        half, tries = len(batch) // 2, _STUBBORN - 2
        parts = (batch.slice(0, half), batch.slice(half, len(batch) - half))
        found = [await self._insert(table, part, topic_id, generation, tries) for part in parts]
        return [one for refused, _ in found for one in refused], all(known for _, known in found)

    async def _try(
        self, table: str, batch: Batch, query_id: str, topic_id: UUID, generation: int
    ) -> tuple[LabelstreamError | None, Sent]:
        """What went wrong, and where and until when the insert may begin.

        Raises:
            _ErasedError: nothing was sent.
        """
        body = await asyncio.to_thread(_encoded, batch.rows)

        def ours() -> None:
            if self._lease.generation != generation or not self._lease.held():
                raise LeaseLostError("the lease was not held when the insert was to be finished")

        settings = {"async_insert": 0, "query_id": query_id, "max_execution_time": INSERT_SECONDS}
        settings |= self._replicas.insert_settings(batch, topic_id, generation)

        def put(driver: Any) -> None:
            if self._writer.hosts.several and self._writer.hosts.moves != moves:
                raise UnavailableError("the host was left before an insert", setting="CLICKHOUSE_HOST")
            driver.raw_insert(
                # An iterator: clickhouse-connect sends a body of bytes once more when the connection
                # is cut, although the first may have been stored.
                insert_block=itertools.chain((statement,), _pieces(body, ours)),
                settings=heeded(settings, driver),
            )

        await self._lease.hold(generation)
        # Not before: the heartbeats may have kept us waiting for long.
        moment, moves = self._fence.moment(), self._fence.moves
        sent = self._insert_end.sent(moment, self._fence.host)
        # Behind that moment: an insert that does not know of an erasure yet has ended soon after it.
        try:
            kept = without_erased(batch, await self._erased())
        except LabelstreamError as error:
            return error, sent
        if kept is not batch:
            raise _ErasedError(kept)
        statement = self._fence.insert(
            qualified(self._database, table), _columns(table, batch.rows.column_names), moment
        )
        sending = asyncio.ensure_future(asyncio.to_thread(self._writer.call, put))
        try:
            await asyncio.shield(sending)
        except asyncio.CancelledError:
            # The thread goes on: whoever is next must not look before it has ended.
            await asyncio.wait([sending], timeout=INSERT_SECONDS)
            sending.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise
        except LabelstreamError as error:
            return error, sent
        return None, sent

    async def _missing(self, table: str, batch: Batch, topic_id: UUID, generation: int) -> Batch:
        """What the table does not hold of ``batch``, whose insert has surely ended."""
        spans: dict[int, tuple[int, int]] = {}
        for record in batch.records:
            start, end = spans.get(record.partition, (record.offset, record.offset + 1))
            spans[record.partition] = (min(start, record.offset), max(end, record.offset + 1))
        stored = await self.stored(table, topic_id, spans, generation)
        return batch.where(lambda record: record.offset not in stored[record.partition])

    async def _patiently(self, generation: int, attempt: Callable[[], Awaitable[T]]) -> T:
        return await while_ours(self._lease, generation, "ClickHouse", attempt)

    def _say_away(self, failure: LabelstreamError) -> None:
        if not self._said and not isinstance(failure, LeaseLostError):
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


def _unknown(failure: LabelstreamError) -> bool:
    """Whether the server answered with an error of which we do not know whose fault it is."""
    if not isinstance(failure, UnavailableError):
        return False
    code = code_of(failure)
    return code is not None and code not in SERVERS_FAULT


def _too_many(failure: LabelstreamError) -> bool:
    """Whether fewer rows at once may help: the server is there, but slow or out of room."""
    if isinstance(failure, OverloadedError):
        return True
    return isinstance(failure, UnavailableError) and (code_of(failure) in _TIMEOUTS or _timed_out(failure))


def _timed_out(failure: LabelstreamError) -> bool:
    return "timed out" in str(failure).lower() and "connect timeout" not in str(failure).lower()


def _refused(batch: Batch, failure: LabelstreamError) -> Refused:
    (row,) = batch.rows.slice(0, 1).to_pylist()
    reason = failure.reason if isinstance(failure, PermanentError) else "refused-by-table"
    return Refused(
        batch.records[0], reason, str(failure), str(row["row_id"]), str(row.get("label_version") or "")
    )


def _columns(table: str, names: Sequence[str]) -> list[TableColumn]:
    message, _ = STORED[table]
    known = {column.name: column for column in (*columns_of(message), *ADDED)}
    return [known[name] for name in names]


def _encoded(rows: Any) -> memoryview:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        # One batch: the server then stores it as one part, whole or not at all.
        writer.write_table(rows.combine_chunks(), max_chunksize=max(1, rows.num_rows))
    return memoryview(sink.getvalue())


def _pieces(body: memoryview, ours: Callable[[], None]) -> Iterator[bytes]:
    """``body`` in pieces. ``ours`` is asked before the first, and again when all of them are out: a process
    that was paused meanwhile raises, and an insert whose end is never sent is not stored."""
    ours()
    for start in range(0, len(body), _PIECE):
        yield bytes(body[start : start + _PIECE])
    ours()
