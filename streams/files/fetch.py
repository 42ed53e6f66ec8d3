"""A fetch: rows of the source table as a file, and as a job that labels those without a label.

The API fetches on request, the role fetcher on a schedule. The job is a backfill: rows get the same ids as
from the poller; rows that are labelled, dead-lettered or in flight are left out, and so are the poller's own
rows.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import structlog

from connectors.clickhouse import ClickHouseConfig, ClickHouseConnector
from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.erasure.erased_list import ErasedRows
from connectors.clickhouse.poller.backfill import OldRows
from connectors.clickhouse.poller.row_identity import RowDigests
from connectors.clickhouse.source.table import SourceRow, SourceTable
from connectors.files.reading import read
from connectors.files.records import FileRecord, Reading
from connectors.files.times import time_in
from streams.core.errors import RefusedError, UnavailableError
from streams.core.settings import Settings
from streams.core.text import clean
from streams.core.times import micros_of
from streams.jobs.context import JobContext, note
from streams.jobs.job import Job
from streams.jobs.runner import find_poller_start
from streams.ports.files import NO_ROWS
from streams.privacy.door import Door, PlainFields, refuse_unmasked
from streams.privacy.erasure import ErasureList

log = structlog.get_logger()

_KEPT_FILES = 100
_MASKED_ROWS = 2_000
_TRIES = 5


@dataclass(frozen=True)
class Fetched:
    """``since`` (None: the first row) and ``until``: the requested range, in microseconds since 1970.
    ``oldest``: the time of the oldest row in the file. ``coarse``: how much later than its time a row may be
    written, microseconds.
    """

    rows: int
    path: Path
    since: int | None
    until: int
    oldest: int | None
    coarse: int = 0


async def export(
    settings: Settings,
    *,
    days: int,
    limit: int | None,
    name: str = "clickhouse",
    door: Door | None = None,
) -> Fetched:
    """Write the rows of today and of ``days`` days before, newest first and at most ``limit``, to a CSV file.

    ``door``: what masks them; rows that cannot be masked are left out of the file, and those that were
    erased.

    Raises:
        ConfigurationError: ClickHouse is not configured, or the file cannot be written.
        UnavailableError: it does not answer, or rows are erased all the time.
        RefusedError: reason `no-rows`.
    """
    refuse_unmasked(settings, door)
    async with ClickHouseClient.from_settings(settings) as client:
        source = SourceTable(client, settings)
        since, until, coarse = await source.begin(days), await source.now(), await source.coarseness()
        erased = ErasedRows(client, settings).now
        folder = settings.labelstream_data / "exports"
        path = folder / f"{name}_{datetime.now(UTC):%Y%m%d_%H%M%S}_{secrets.token_hex(2)}.csv"
        config, id_column = ClickHouseConfig.from_settings(settings), settings.clickhouse_id_column or ""
        for _ in range(_TRIES):
            known = await erased()
            masking = None if door is None else _Masking(door, asyncio.get_running_loop())
            leaving = None if known.newest is None else _Leaving(known, RowDigests.of(settings))

            def write(masking: _Masking | None = masking, leaving: _Leaving | None = leaving) -> int:
                private = settings.privacy == "mask"
                with ClickHouseConnector(config, id_column=id_column, private=private) as connector:
                    return connector.export_to_file(
                        path, days=days, limit=limit, format="csv", convert=masking, keep=leaving
                    )

            rows = await asyncio.to_thread(write)
            if await erased() is known:
                break
            # An erasure that ran meanwhile did not see the unfinished file.
            path.unlink(missing_ok=True)
        else:
            raise UnavailableError("rows were erased while they were fetched; fetch again")
    if not rows:
        path.unlink(missing_ok=True)
        raise RefusedError("there are no rows in that time", reason=NO_ROWS)
    read = rows + sum(one.left_out for one in (masking, leaving) if one is not None)
    oldest = await asyncio.to_thread(_oldest_in, path) if read == limit else None
    await asyncio.to_thread(_forget_older, folder, name)
    return Fetched(rows, path, since, until, oldest, coarse)


async def fetch_job(
    context: JobContext, fetched: Fetched, *, limit: int | None, since: int | None = None
) -> Job:
    """The job for the rows of a fetch, not recorded yet. ``since``: the start of the range, if it is not that
    of the file.

    Raises:
        UnavailableError, AccessError, ConfigurationError.
    """
    begin = since if since is not None else (fetched.oldest or fetched.since)
    until = await find_poller_start(context)
    until = fetched.until + 1 if until is None else min(until, fetched.until + 1)
    until = until if begin is None else max(until, begin)
    job = Job(
        id=f"fetch-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}",
        source="source",
        to="labeled",
        kept=True,
        since=begin,
        until=until,
        limit=fetched.rows if limit is not None else None,
        export=str(fetched.path),
    )
    old = OldRows(
        context.client, context.settings, context.topics, since=begin, until=until, door=context.door
    )
    job.expected = await old.count()
    job.expected = min(job.expected, job.limit) if job.limit is not None else job.expected
    return job


async def begin(context: JobContext, job: Job) -> Job:
    """Record ``job``, if it is not recorded: from now on it will be run, whatever happens to this process.

    Raises:
        UnavailableError, AccessError.
    """
    if job.id not in context.jobs.jobs:
        await note(context, job.asked_message(context.topics))
        context.jobs.jobs.setdefault(job.id, job)
    return context.jobs.jobs[job.id]


class _Leaving:
    """Says which rows stay in a file: those that ``erased`` does not cover. By their plain ids, for the list
    may be older than the secret.
    """

    def __init__(self, erased: ErasureList, digests: RowDigests) -> None:
        self.left_out = 0
        self._erased = erased
        self._digests = digests
        self._equal: Counter[bytes] = Counter()

    def __call__(self, rows: Sequence[SourceRow]) -> list[bool]:
        stay = [not self._covers(row) for row in rows]
        self.left_out += len(rows) - sum(stay)
        return stay

    def _covers(self, row: SourceRow) -> bool:
        if not self._erased.may_cover(row.micros):
            return False
        # Which of equal rows is the first nobody can tell, and they are equal.
        self._equal[content := self._digests.content(row)] += 1
        ids = self._digests.ids_of(row, self._equal[content])
        user = None if row.user is None else row.user.decode("utf-8", "replace")
        return any(self._erased.covers(row_id, user, row.micros) for row_id in ids)


class _Masking:
    """Masks blocks of an export, in the thread that writes them; the pool belongs to ``loop``."""

    def __init__(self, door: Door, loop: asyncio.AbstractEventLoop) -> None:
        self.left_out = 0
        self._door = door
        self._loop = loop

    def __call__(self, block: pa.Table) -> pa.Table:
        parts = []
        for piece in block.to_batches(max_chunksize=_MASKED_ROWS):
            columns = piece.to_pydict()
            texts, users, domains = columns["text"], columns["user_id"], columns["domain"]
            rows = [
                PlainFields(clean(text or ""), user, None, domain)
                for text, user, domain in zip(texts, users, domains, strict=True)
            ]
            found = asyncio.run_coroutine_threadsafe(self._door.fields(rows), self._loop).result()
            kept = [(row, at) for row, at in zip(found, columns["ts"], strict=True) if row is not None]
            if len(kept) < len(found):
                log.warning("rows that cannot be masked are not in the file", count=len(found) - len(kept))
                self.left_out += len(found) - len(kept)
            safe = {
                "text": [row.text for row, _ in kept],
                "domain": [row.domain for row, _ in kept],
                "ts": [at for _, at in kept],
                "user_id": [row.user for row, _ in kept],
            }
            parts.append(pa.Table.from_pydict(safe, schema=block.schema))
        return pa.concat_tables(parts) if parts else block


def _oldest_in(path: Path) -> int | None:
    """The last row of the file is the oldest one."""
    reading, last = Reading(format="csv", columns=("text", "domain", "ts", "user_id")), None
    for record in read(path, reading):
        if isinstance(record, FileRecord):
            last = record
    found = time_in(last.values[2]) if last is not None else None
    return micros_of(found) if found is not None else None


def _forget_older(folder: Path, name: str) -> None:
    """Keep only the newest files."""
    files = sorted(folder.glob(f"{name}_*.csv"), key=lambda path: path.name)
    for path in files[:-_KEPT_FILES]:
        path.unlink(missing_ok=True)
