"""ClickHouse over HTTP: clickhouse-connect in threads, so that no query blocks the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import clickhouse_connect
from clickhouse_connect.driver import httputil

from connectors.clickhouse.client.errors import SETTING, leaves_host, translate
from connectors.clickhouse.client.hosts import Host, Hosts, parse_hosts
from connectors.clickhouse.client.reading import Attempt, ReadLimits
from streams.core.errors import ConfigurationError
from streams.core.settings import Settings

_THREADS = 4
# So long is waited for a read to end on the server when its caller has gone.
_END_SECONDS = 2.0


class ClickHouseClient:
    """One connection pool and a few threads. Every method raises our errors only."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        username: str,
        password: str,
        database: str = "default",
        secure: bool = False,
        ca_cert: str | None = None,
        connect_seconds: float = 5.0,
        answer_seconds: float = 60.0,
        private: bool = False,
        hosts: Hosts | None = None,
    ) -> None:
        """``host``: one, or several with commas in between: one is used as long as it works, then the next.
        ``hosts``: instead of them, those of another client, with which this one stays on the same host.
        ``private``: errors quote nothing that the server quotes, because it may be of a row.

        Raises:
            ConfigurationError: ``host`` is none.
        """
        self._given: dict[str, Any] = {
            "host": host,
            "port": port,
            "username": username,
            "password": password,
            "database": database,
            "secure": secure,
            "ca_cert": ca_cert,
            "connect_seconds": connect_seconds,
            "answer_seconds": answer_seconds,
            "private": private,
        }
        self._private = private
        self.hosts = hosts or Hosts(parse_hosts(host, port))
        self._arguments: dict[str, Any] = {
            "username": username,
            "password": password,
            "interface": "https" if secure else "http",
            "ca_cert": ca_cert,
            "connect_timeout": connect_seconds,
            "send_receive_timeout": answer_seconds,
            # Without sessions, which would serialise the queries.
            "autogenerate_session_id": False,
            "query_retries": 0,
        }
        self._driver: Any = None
        self._pool: Any = None
        self._used: Host | None = None
        self._limits = ReadLimits(answer_seconds)
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="clickhouse")

    @classmethod
    def from_settings(cls, settings: Settings, **overrides: Any) -> Self:
        """A client for the settings' server.

        Raises:
            ConfigurationError: no host.
        """
        if not settings.clickhouse_host:
            raise ConfigurationError(
                "CLICKHOUSE_HOST is not set and the local stack does not run",
                setting=SETTING,
                fix="set it to your server, or start the local stack: labelstream local up",
            )
        arguments: dict[str, Any] = {
            "host": settings.clickhouse_host,
            "port": settings.clickhouse_port,
            "username": settings.clickhouse_username,
            "password": settings.clickhouse_password.get_secret_value(),
            "secure": settings.clickhouse_secure,
            "ca_cert": str(settings.clickhouse_ca_cert) if settings.clickhouse_ca_cert else None,
            "private": settings.privacy == "mask",
        }
        return cls(**(arguments | overrides))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def at(self, host: Host) -> Self:
        """A client like this one, of its class, for ``host`` alone."""
        return type(self)(**self._given, hosts=Hosts([host]))

    async def command(
        self,
        sql: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        query_id: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run a statement that returns nothing, or one value.

        The server runs one statement at a time with a ``query_id``, and refuses a second one: errors.RUNNING.
        """
        sent = dict(settings or {}) | ({} if query_id is None else {"query_id": query_id})
        return await self._run(lambda driver: driver.command(sql, parameters=parameters, settings=sent))

    async def rows(
        self, sql: str, parameters: Mapping[str, Any] | None = None, *, skip_indexes: bool = True
    ) -> list[tuple[Any, ...]]:
        """The result's rows. ``skip_indexes``: False where the tables' skip indexes would leave out nothing.
        Of thousands of values each block seems to have one, and to ask costs as much as the answer.
        """
        rows: list[tuple[Any, ...]] = await self._read(
            sql,
            lambda driver, settings: list(
                driver.query(sql, parameters=parameters, settings=settings).result_rows
            ),
            skip_indexes,
        )
        return rows

    async def columns(
        self, sql: str, parameters: Mapping[str, Any] | None = None, *, strings_as_bytes: bool = False
    ) -> list[Sequence[Any]]:
        """The result's columns; with ``strings_as_bytes`` a String is returned as bytes, UTF-8 or not."""
        formats = {"String": "bytes"} if strings_as_bytes else None

        def query(driver: Any, settings: dict[str, Any]) -> list[Sequence[Any]]:
            result = driver.query(
                sql, parameters=parameters, query_formats=formats, column_oriented=True, settings=settings
            )
            return list(result.result_columns) if result.row_count else []

        columns: list[Sequence[Any]] = await self._read(sql, query)
        return columns

    def stream(
        self,
        sql: str,
        parameters: Mapping[str, Any] | None,
        take: Callable[[Sequence[Any]], None],
        *,
        strings_as_bytes: bool = False,
        block_rows: int | None = None,
    ) -> None:
        """Pass the result to ``take``, one block of columns after the other, in this thread.

        ``block_rows``: of a block at most, if the user may set it.
        """
        formats = {"String": "bytes"} if strings_as_bytes else None

        def read(driver: Any) -> None:
            settings = self._limits.settings(driver, sql, Attempt(), timed=False, block_rows=block_rows)
            with driver.query_column_block_stream(
                sql, parameters=parameters, settings=settings, query_formats=formats
            ) as blocks:
                for columns in blocks:
                    take(columns)

        self.call(read)

    async def insert(
        self,
        table: str,
        names: Sequence[str],
        columns: Sequence[Sequence[Any]],
        *,
        database: str,
        query_id: str | None = None,
        seconds: float | None = None,
    ) -> None:
        """Insert by columns. ``seconds``: the time that the server may take."""
        settings: dict[str, Any] = {"async_insert": 0}
        if query_id is not None:
            settings["query_id"] = query_id
        if seconds is not None:
            settings["max_execution_time"] = int(seconds) or 1

        def put(driver: Any) -> None:
            driver.insert(
                table, columns, column_names=names, database=database, column_oriented=True, settings=settings
            )

        await self._run(put)

    async def insert_arrow(self, database: str, table: str, rows: Any) -> None:
        """Insert an Arrow table."""
        await self._run(lambda driver: driver.insert_arrow(table, rows, database=database))

    async def close(self) -> None:
        """Close the pool; the object can be used again."""
        with self._lock:
            driver, self._driver = self._driver, None
        if driver is not None:
            await asyncio.to_thread(driver.close)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _read(
        self, sql: str, call: Callable[[Any, dict[str, Any]], Any], skip_indexes: bool = True
    ) -> Any:
        """``call(driver, settings)`` in a thread. Whoever is cancelled while it runs leaves nothing behind:
        the same read may be asked for again at once.
        """
        attempt, driver = Attempt(), None

        def read(connected: Any) -> Any:
            nonlocal driver
            driver, attempt.begun = connected, True
            try:
                return self._limits.run(
                    connected,
                    sql,
                    attempt,
                    lambda settings: call(connected, settings),
                    skip_indexes=skip_indexes,
                )
            finally:
                attempt.over.set()

        try:
            return await self._run(read)
        except asyncio.CancelledError:
            if attempt.begun and not attempt.over.is_set():
                await _ended(attempt, driver)
            raise

    async def _run(self, call: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.call, call)

    def call(self, call: Any) -> Any:
        """Run ``call(driver)`` in this thread. After a failure of the host the next call uses another one."""
        host = self.hosts.current
        try:
            host, driver = self._connected()
            return call(driver)
        except Exception as error:
            translated = translate(error, private=self._private)
            # Not for what ``call`` itself says: that is not of the host.
            if translated is not error and leaves_host(translated):
                self.hosts.leave(host, str(translated))
            if self._private:  # the driver's own error would be in the traceback
                raise translated from None
            raise translated from error

    def _connected(self) -> tuple[Host, Any]:
        """The current host, and the driver that is connected to it. Where it cannot be reached, the next."""
        with self._lock:
            for _ in self.hosts.every:
                host = self.hosts.current
                if self._driver is not None and self._used == host:
                    return host, self._driver
                if self._driver is not None:
                    # What another thread still does there goes on; its connection is closed afterwards.
                    self._pool.clear()
                    self._driver = None
                try:
                    self._driver, self._used = self._connect(host), host
                except Exception as error:
                    if not (self.hosts.several and leaves_host(translate(error))):
                        raise
                    self.hosts.leave(host, str(translate(error, private=self._private)))
                    failed = error
                    continue
                return host, self._driver
            raise failed

    def _connect(self, host: Host) -> Any:
        # A pool of our own: no proxy from the environment can receive the data.
        self._pool = httputil.get_pool_manager(
            ca_cert=self._arguments["ca_cert"], verify=True, maxsize=_THREADS, num_pools=4
        )
        return clickhouse_connect.get_client(
            host=host.name, port=host.port, **self._arguments, pool_mgr=self._pool
        )


async def _ended(attempt: Attempt, driver: Any) -> None:
    """End ``attempt`` on the server. In a thread of its own: those of the pool may all be waiting."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()

    def end() -> None:
        attempt.kill(driver)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(over.set)

    threading.Thread(target=end, daemon=True, name="clickhouse-kill").start()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_END_SECONDS):
            await over.wait()
