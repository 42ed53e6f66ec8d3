"""The engine in this process: one store, a connection for each request, and sessions that keep their
connection.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from connectors.local.clickhouse.errors import EngineError, from_engine

_TURN_SECONDS = 1.0


@dataclass(slots=True)
class _Session:
    connection: "Connection"
    expires: float
    busy: bool = False
    lock: Lock = field(default_factory=Lock)


class Connection:
    """One chdb connection, with settings, a database and temporary tables of its own. Every call blocks."""

    def __init__(self, path: Path) -> None:
        from chdb.state.sqlitelike import Connection as ChdbConnection

        self._chdb: Any = ChdbConnection(str(path))

    def close(self) -> None:
        self._chdb.close()

    def use(self, database: str) -> None:
        """Raises :class:`EngineError` 81 for a database that does not exist."""
        self.query(f"USE {_identifier(database)}")

    def set(self, settings: Mapping[str, str]) -> None:
        """Set settings by name; raises :class:`EngineError` 115 for an unknown one."""
        if settings:
            self.query("SET " + ", ".join(f"{_identifier(k)} = {literal(v)}" for k, v in settings.items()))

    def reset(self, names: Iterator[str] | list[str]) -> None:
        """Reset settings to their defaults."""
        assignments = ", ".join(f"{_identifier(name)} = DEFAULT" for name in names)
        if assignments:
            self.query(f"SET {assignments}")

    def query(
        self, sql: str, output_format: str = "TabSeparated", params: Mapping[str, str] | None = None
    ) -> Any:
        """Run any statement; the result has ``bytes()``, ``rows_written()`` and more."""
        with _engine_errors():
            return self._chdb.query(sql, output_format, params=dict(params or {}))

    def stream(self, sql: str, output_format: str, params: Mapping[str, str]) -> Iterator[bytes]:
        """Run a SELECT; yields its output block by block. Close the iterator to cancel the query."""
        with _engine_errors():
            result = self._chdb.send_query(sql, output_format, params=dict(params))
        try:
            while True:
                with _engine_errors():
                    chunk = result.fetch()
                if chunk is None:
                    return
                yield chunk.bytes()
        finally:
            with contextlib.suppress(Exception):
                result.cancel()

    def statements(self, sql: str) -> int:
        """How many statements ``sql`` holds; 0 when it does not parse."""
        with _engine_errors():
            return int(self._chdb._conn.classify_query(sql)["statement_count"])


class Engine:
    """The store below ``path``. Only one process may have it open."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.mkdir(parents=True, exist_ok=True)
        # Kept open for the life of the process: the engine shuts down with its last connection.
        self._root = Connection(path)
        self._sessions: dict[str, _Session] = {}
        self._lock = Lock()
        self.spool = path / "spool"  # received data of inserts, until it is complete
        self.spool.mkdir(exist_ok=True)
        version, timezone = (
            self._root.query("SELECT version(), timezone()").bytes().decode().strip().split("\t")
        )
        self.version = f"{version} (chdb)"
        self.timezone = timezone

    def close(self) -> None:
        """Cancel what runs and close the store."""
        with contextlib.suppress(EngineError):
            self._root.query("KILL QUERY WHERE query NOT LIKE 'KILL%' ASYNC")
        for session in self._sessions.values():
            session.connection.close()
        self._root.close()

    def kill(self, query_id: str) -> None:
        """Cancel the statements of the request with this id."""
        with contextlib.suppress(EngineError):
            self._root.query(f"KILL QUERY WHERE Settings['log_comment'] = {literal(query_id)} ASYNC")

    @contextlib.contextmanager
    def connection(
        self, session_id: str = "", timeout: float = 60, check: bool = False
    ) -> Iterator[Connection]:
        """A connection for one request: a fresh one, or the session's.

        ``timeout`` is how long, in seconds, an idle session lives. Raises :class:`EngineError` 373 when
        the session is in use, 372 when ``check`` is set and it does not exist.
        """
        if not session_id:
            connection = Connection(self._path)
            try:
                yield connection
            finally:
                connection.close()
            return
        session = self._await_turn(session_id, check)
        try:
            yield session.connection
        finally:
            session.expires = time.monotonic() + timeout
            session.busy = False

    def _await_turn(self, session_id: str, check: bool) -> _Session:
        """A client may send its next request before this thread has released the session after the
        last one.
        """
        deadline = time.monotonic() + _TURN_SECONDS
        while True:
            try:
                return self._take(session_id, check)
            except EngineError as error:
                if error.code != 373 or time.monotonic() > deadline:
                    raise
            time.sleep(0.002)

    def _take(self, session_id: str, check: bool) -> _Session:
        now = time.monotonic()
        with self._lock:
            for name in [n for n, s in self._sessions.items() if s.expires < now and not s.busy]:
                self._sessions.pop(name).connection.close()
            session = self._sessions.get(session_id)
            if session is None:
                if check:
                    raise EngineError(372, f"Session {session_id} not found", "SESSION_NOT_FOUND")
                session = self._sessions[session_id] = _Session(Connection(self._path), now)
            elif session.busy:
                raise EngineError(
                    373, f"Session {session_id} is locked by a concurrent client", "SESSION_IS_LOCKED"
                )
            session.busy = True
            return session


@contextlib.contextmanager
def _engine_errors() -> Iterator[None]:
    try:
        yield
    except EngineError:
        raise
    except Exception as error:
        raise from_engine(error) from error


def _identifier(name: str) -> str:
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def literal(value: str) -> str:
    """``value`` as a string of SQL."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
