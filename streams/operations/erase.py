"""`labelstream erase`: takes one user's rows, or the rows of one id, out of all that labelstream keeps.

The list of erased ids is written first; from then on no sink stores such a row, whatever topic it comes from.
When every insert that did not know of it has ended, tables and files are searched. What finds the rows is
changed last, so that an erasure that was cut off finds them again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from connectors.clickhouse.client.catch_up import catch_up
from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.erasure.erased_list import FRESH_SECONDS, add_rows, begin_erasure, end_erasure
from connectors.clickhouse.erasure.person import Found, FoundRow, Person, audited, count_of, other_generations
from connectors.clickhouse.erasure.tombstones import forget_targets, replace_rows
from connectors.clickhouse.queries.audit_log import write_audit
from connectors.clickhouse.schema.grants import refuse_missing_rights
from connectors.clickhouse.schema.schema_lock import SchemaLock
from connectors.clickhouse.schema.tables import (
    ANSWERS,
    AUDIT,
    AUGMENTED,
    DEAD_LETTERS,
    ERASURES,
    INSERT_SECONDS,
    LABELED,
)
from connectors.clickhouse.sink.insert_fence import LAST_SECONDS
from connectors.clickhouse.source.table import SourceTable
from connectors.files.uploads import Upload
from connectors.kafka.connection import connection
from connectors.kafka.tail import TailReader
from streams.core.errors import AccessError, ConfigurationError
from streams.core.settings import Settings
from streams.core.topics import Topics
from streams.jobs.job import Job, Jobs, read_jobs
from streams.operations.erase_files import Files
from streams.operations.erase_topics import (
    forget_in_jobs,
    jobs_naming,
    kept_by_topics,
    refuse_unwritable,
    review_keys,
    send_tombstones,
)
from streams.ports.audit import AuditEntry
from streams.privacy.erasure import Kind
from streams.privacy.pseudonyms import Pseudonyms, pseudonyms_of
from streams.runtime.secret import verify_secret

# After that, no insert is left that began without knowing of the erasure.
SETTLE_SECONDS = FRESH_SECONDS + LAST_SECONDS + INSERT_SECONDS + 1.0
LOCK = "erasure_lock"
# So long the next one waits for one that was killed.
_BEAT_SECONDS, _DEAD_SECONDS = 2.0, 20.0
_RIGHTS = (
    ("SELECT, INSERT, ALTER DELETE", (LABELED, AUGMENTED, DEAD_LETTERS, ANSWERS)),
    ("SELECT, INSERT, ALTER UPDATE", (AUDIT, ERASURES)),
)
_REVIEW = "review topic"
_UPLOADS, _EXPORTS, _JOBS = "uploads", "exports", "jobs"


@dataclass
class Erased:
    """The report. ``found`` and ``gone``: how many lines, messages or files, by place. ``files``: those that
    were found. ``left``: what is still there, and why. ``kept``: until which day what is not ours to delete
    stays. ``complete``: nothing is left.
    """

    kind: Kind
    dry_run: bool
    found: dict[str, int] = field(default_factory=dict)
    gone: dict[str, int] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    kept: list[dict[str, str | None]] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return not self.left

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "complete": self.complete}


async def erase(
    settings: Settings,
    kind: Kind,
    given: str,
    *,
    dry_run: bool = False,
    audited_as: str = "local",
    settle: float = SETTLE_SECONDS,
    say: Callable[[str], None] = lambda text: None,
) -> Erased:
    """Erase the rows of the user, or of the row id, ``given``. Rows that a person sends later are new data.

    ``dry_run``: look only. ``settle``: seconds until each sink knows of it.

    Raises:
        UnavailableError: erase again; what is done stays done.
        AccessError: the user of ClickHouse may not ALTER DELETE, or that of Kafka not write.
        ConfigurationError: an empty id, or users are stored under a `PRIVACY_SECRET` that is not set, or
            another one.
    """
    if not given.strip():
        raise ConfigurationError("the id is empty", fix="give the id as the source table has it")
    ids = [given]
    pseudonyms = pseudonyms_of(settings)
    await verify_secret(settings, note=not dry_run)
    if kind == "user" and pseudonyms is not None:
        ids += pseudonyms.every_pseudonym("user", given)
    person, report = Person(kind, ids), Erased(kind, dry_run)
    tail = TailReader(connection(settings))
    async with ClickHouseClient.from_settings(settings) as client:
        if kind == "user":
            await _refuse_other_generations(client, settings, pseudonyms)
        # Before anything is changed: without Kafka only half of it could be done.
        report.kept = [*await kept_by_topics(settings), *_kept(settings)]
        report.kept += [
            {
                "where": one,
                "until": None,
                "why": "another row with the same id; erase it with --row if it is meant",
            }
            for one in await person.namesakes(client, settings.result_database)
        ]
        jobs = await read_jobs(settings, tail)
        work = _Work(client, settings, person, tail, Files(settings, jobs), report, jobs)
        if dry_run:
            say("looking")
            await work.look()
            report.left = []
            return report
        for rights, tables in _RIGHTS:
            await refuse_missing_rights(client, settings, rights, tables)
        await refuse_unwritable(settings)
        # Two at a time would leave two tombstones of a row.
        lock = SchemaLock(
            client,
            settings.result_database,
            name=LOCK,
            other="another labelstream erase",
            beat_seconds=_BEAT_SECONDS,
            dead_seconds=_DEAD_SECONDS,
        )
        async with lock:
            work.until = await _until(client, settings, kind)
            nonce = await begin_erasure(client, settings, kind, ids, work.until)
            await work.note_later(await person.rows(client, settings.result_database), nonce)
            say("waiting until all processes know of it")
            await asyncio.sleep(settle)
            say("erasing")
            await work.run(nonce, lock)
            await end_erasure(client, settings, kind, ids)
        entry = AuditEntry(
            at=datetime.now(UTC),
            who=audited_as,
            action="erase",
            target=kind,
            result="done" if report.complete else "partly",
            detail=", ".join(f"{where} {count}" for where, count in report.gone.items() if count),
        )
        await write_audit(client, settings, [entry])
    return report


async def _refuse_other_generations(
    client: ClickHouseClient, settings: Settings, pseudonyms: Pseudonyms | None
) -> None:
    """Rows under a pseudonym that cannot be made here would not be found."""
    known: Collection[int] = () if pseudonyms is None else pseudonyms.row_keys
    if other := await other_generations(client, settings.result_database, known):
        raise ConfigurationError(
            f"the tables have users under generation {', '.join(map(str, other))} of PRIVACY_SECRET, which "
            "is not set here: their rows could not be found",
            setting="PRIVACY_SECRET",
            fix="set it, with its older generations",
        )


async def _until(client: ClickHouseClient, settings: Settings, kind: Kind) -> int:
    """Up to which time an entry covers rows: now. Of a user of a source table with dates up to yesterday:
    rows that come later today have the same time as those that are erased.
    """
    now = int(time.time() * 1e6)
    if kind == "row":
        return now
    try:
        coarse = await SourceTable(client, settings).coarseness()
    except (ConfigurationError, AccessError):
        coarse = 0  # no source table, or one that is not to be read here
    return now - now % coarse - 1 if coarse else now


def _kept(settings: Settings) -> list[dict[str, str | None]]:
    review = Topics(settings.topic_prefix).review
    return [
        {"where": review, "until": None, "why": "deleted keys go when Kafka compacts it"},
        {"where": settings.source_table, "until": None, "why": "the source table is not changed"},
        {
            "where": "agents and api",
            "until": None,
            "why": "the answers of models are in memory, by a digest of the text, until these are restarted",
        },
    ]


class _There(NamedTuple):
    """What there is of a person. ``every``: the ids of all rows, also of those that only letters know."""

    rows: list[FoundRow]
    letters: Found
    every: list[str]
    uploads: list[Upload]
    exports: list[Path]
    jobs: list[Job]


@dataclass
class _Work:
    client: ClickHouseClient
    settings: Settings
    person: Person
    tail: TailReader
    files: Files
    report: Erased
    jobs: Jobs
    until: int = 0
    noted: set[tuple[str, int]] = field(default_factory=set)

    async def note_later(self, rows: Iterable[FoundRow], nonce: str) -> None:
        """Rows of the future, and of today where times are dates, have entries of their own."""
        later = {(row.row_id, row.micros) for row in rows if row.micros > self.until} - self.noted
        # For a row this is its entry itself, which keeps the nonce.
        await add_rows(self.client, self.settings, sorted(later), nonce if self.person.kind == "row" else "")
        self.noted |= later

    async def look(self) -> _There:
        """Note what there is."""
        await self._catch_up()
        rows = await self._rows()
        letters, ids = await self._letters(rows)
        every = self._every(rows, ids)
        keys = await self._review_keys(rows)
        targets = await audited(self.client, self._database, every)
        uploads = await self.files.uploads(self.person, every)
        exports = await self.files.exports(self.person, rows)
        naming = jobs_naming(self.jobs, self.person, every, {one.file_id for one in uploads})
        self.report.found = {
            **{
                table: await count_of(self.client, self._database, table, rows)
                for table in (LABELED, AUGMENTED, ANSWERS)
            },
            DEAD_LETTERS: letters.rows,
            AUDIT: len(targets),
            _REVIEW: len(keys),
            _UPLOADS: len(uploads),
            _EXPORTS: len(exports),
            _JOBS: len(naming),
        }
        self.report.files = [*(one.name for one in uploads), *map(str, exports)]
        return _There(rows, letters, every, uploads, exports, naming)

    async def run(self, nonce: str, lock: SchemaLock) -> None:
        """Erase what there is."""
        rows, letters, every, uploads, exports, naming = await self.look()
        await self.note_later(rows, nonce)
        gone = self.report.gone = dict.fromkeys(self.report.found, 0)
        gone[AUDIT], gone[_REVIEW] = await self._forget_ids(rows, every)
        gone[_EXPORTS] = await self.files.cut_exports(self.person, rows, exports)
        gone[_UPLOADS], self.report.left = await self.files.delete_uploads(uploads)
        self.report.left += await self.files.doubtful_uploads(self.person)
        gone[_JOBS], left = await forget_in_jobs(self.settings, self.jobs, naming, self.person)
        self.report.left += left
        await lock.hold()
        await replace_rows(self.client, self._database, DEAD_LETTERS, letters, nonce)
        gone[DEAD_LETTERS] = letters.rows
        found = Found(sorted({row.micros for row in rows}), sorted({row.hash for row in rows}), len(rows))
        for table in (ANSWERS, AUGMENTED, LABELED):
            await lock.hold()
            await replace_rows(self.client, self._database, table, found, nonce)
            gone[table] = self.report.found[table]
        await self._check()
        # Who looked at a row, or had it on the desk, may have told of it until now.
        await self._forget_ids(rows, every)

    async def _forget_ids(self, rows: Iterable[FoundRow], every: Sequence[str]) -> tuple[int, int]:
        """Take them out of the audit log and the review topic; returns how many each had."""
        targets = await audited(self.client, self._database, every)
        await forget_targets(self.client, self._database, targets)
        return len(targets), await send_tombstones(self.settings, await self._review_keys(rows))

    async def _review_keys(self, rows: Iterable[FoundRow]) -> list[bytes]:
        ids = self.person.ids if self.person.kind == "row" else ()
        return await review_keys(self.settings, self.tail, [(row.row_id, row.micros) for row in rows], ids)

    def _every(self, rows: Iterable[FoundRow], ids: Iterable[str]) -> list[str]:
        """The ids of all rows: also of a row that no table has any more."""
        asked = self.person.ids if self.person.kind == "row" else ()
        return [*dict.fromkeys([*(row.row_id for row in rows), *ids, *asked])]

    async def _check(self) -> None:
        """What is there again was written by somebody who does not know of the list."""
        await self._catch_up()
        rows = await self._rows()
        letters, _ = await self._letters(rows)
        if rows or letters.rows:
            self.report.left.append(
                f"{len(rows)} rows and {letters.rows} dead letters were stored meanwhile: a sink of an older "
                "release runs; stop it, and erase again"
            )

    async def _catch_up(self) -> None:
        """A replica that is behind would not show what other ones have of the person."""
        for table in (LABELED, AUGMENTED, DEAD_LETTERS, ANSWERS, AUDIT):
            await catch_up(self.client, self._database, table)

    async def _rows(self) -> list[FoundRow]:
        return await self.person.rows(self.client, self._database)

    async def _letters(self, rows: Iterable[FoundRow]) -> tuple[Found, list[str]]:
        return await self.person.letters(self.client, self._database, rows)

    @property
    def _database(self) -> str:
        return self.settings.result_database
