"""Inserts whose data comes with the request.

The data is first received into an unnamed file, and then inserted at once. The engine's own streamed inserts
lose errors of the table (a constraint, a view, too many parts) and report success. And so a client that
disconnects half-way leaves nothing behind.
"""

import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Self

from connectors.local.clickhouse.engine import Connection, literal
from connectors.local.clickhouse.errors import EngineError
from connectors.local.clickhouse.statement import Insert

_DESCRIPTORS = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"


@dataclass(frozen=True, slots=True)
class Written:
    """What an insert wrote: rows and bytes."""

    rows: int
    bytes: int


class RowInsert:
    """One running insert. ``kill`` may be called from another thread."""

    def __init__(self, query_id: str, statement: Insert, spool: Path) -> None:
        self.query_id = query_id
        self.text = " ".join(filter(None, (statement.target, statement.settings, "FORMAT", statement.format)))
        self.began = time.monotonic()
        self._statement = statement
        self._file = tempfile.TemporaryFile(dir=spool)  # noqa: SIM115, closed by `__exit__`
        self._lock = Lock()
        self._killed = False
        self._in_engine = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._file.close()

    @property
    def over(self) -> bool:
        """Whether it will store nothing any more, although its client may still be sending."""
        return self._killed and not self._in_engine

    def append(self, data: bytes) -> None:
        """Append the next piece. Raises :class:`EngineError`: 394 when killed, 243 when the disk is full."""
        self._check()
        try:
            self._file.write(data)
        except OSError as error:
            raise EngineError(243, f"Cannot keep the data: {error}", "NOT_ENOUGH_SPACE") from error

    def store(self, connection: Connection) -> Written:
        """Insert the received data. Raises :class:`EngineError`; 394 when it was killed."""
        with self._lock:
            self._check()
            self._in_engine = True
        try:
            self._file.flush()
            self._file.seek(0)
            result = connection.query(self._sql(f"'{_DESCRIPTORS}/{self._file.fileno()}'"))
        finally:
            self._in_engine = False
        return Written(result.rows_written(), result.bytes_written())

    def _sql(self, path: str) -> str:
        what = self._statement
        if what.structure:
            return (
                f"{what.target} file({path}, {literal(what.format)}, {what.structure}, 'none') "
                f"{what.rest} {what.settings}"
            )
        return f"{what.target} FROM INFILE {path} COMPRESSION 'none' {what.settings} FORMAT {what.format}"

    def kill(self) -> None:
        """End it if it waits for data; in the engine, the engine's own kill ends it."""
        with self._lock:
            self._killed = True

    def _check(self) -> None:
        if self._killed:
            raise EngineError(394, "Query was cancelled", "QUERY_WAS_CANCELLED")


class Inserts:
    """The running inserts."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        self._lock = Lock()
        self._running: list[RowInsert] = []

    @contextmanager
    def begin(self, query_id: str, statement: Insert) -> Iterator[RowInsert]:
        """A new insert, listed while the context lasts."""
        with RowInsert(query_id, statement, self._spool) as insert:
            with self._lock:
                self._running.append(insert)
            try:
                yield insert
            finally:
                with self._lock:
                    self._running.remove(insert)

    def kill(self, query_ids: Iterable[str]) -> None:
        """End these inserts: they store nothing, and their clients get error 394."""
        ids = set(query_ids)
        for insert in self._now():
            if insert.query_id in ids:
                insert.kill()

    def processes(self) -> str:
        """A subquery for ``system.processes``: with the ids of clients, and with inserts that wait for data.

        A row of an insert is made from the row of the asking statement, because only that has values of all
        types.
        """
        listed = [insert for insert in self._now() if not insert.over]
        engine = "SELECT * REPLACE (Settings['log_comment'] AS query_id) FROM system.processes"
        if not listed:
            return f"({engine})"
        # Not twice: an insert that is in the engine now came here as an insert, too.
        ids = ", ".join(literal(insert.query_id) for insert in listed)
        rows = ", ".join(
            f"({literal(insert.query_id)}, {literal(insert.text)}, {time.monotonic() - insert.began:.6f})"
            for insert in listed
        )
        waiting = (
            "SELECT * REPLACE (_insert.1 AS query_id, _insert.2 AS query, 'Insert' AS query_kind, "
            "_insert.3 AS elapsed) "
            "FROM (SELECT * FROM system.processes WHERE query LIKE '%_insert%' LIMIT 1) "
            f"ARRAY JOIN [{rows}] AS _insert"
        )
        return f"({engine} WHERE query_id NOT IN ({ids}) UNION ALL SELECT * EXCEPT _insert FROM ({waiting}))"

    def _now(self) -> list[RowInsert]:
        with self._lock:
            return list(self._running)
