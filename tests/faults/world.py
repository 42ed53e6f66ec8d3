"""The real parts of a run, and the hands that break them: Kafka, ClickHouse, the LLM stand-in."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import clickhouse_connect

from connectors.local.stack import LocalStack, StackStatus
from tests.stack import shared_jars
from tests.waiting import PATIENCE, until

T = TypeVar("T")

TAXONOMY = Path(__file__).resolve().parents[2] / "taxonomy.yaml"
PARTITIONS = 8
RESULTS = ("logs_labeled", "logs_augmented", "dead_letters")


class World:
    """A running local stack. Everything here speaks to it directly, never through the product's code."""

    def __init__(self, stack: LocalStack, status: StackStatus) -> None:
        self._stack = stack
        self.status = status
        assert status.clickhouse.port
        assert status.kafka.address
        assert status.llm.port
        self.clickhouse_port = status.clickhouse.port
        self.kafka = status.kafka.address
        self.llm_port = status.llm.port
        self._clients: list[Any] = []  # that are not in use; a new one asks four questions

    def environment(self, name: str, **more: str) -> dict[str, str]:
        """The settings of a run's roles. ``name``: its topics' prefix and its database."""
        model = f"http://127.0.0.1:{self.llm_port}/v1"
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka,
            "CLICKHOUSE_HOST": "127.0.0.1",
            "CLICKHOUSE_PORT": str(self.clickhouse_port),
            "CLICKHOUSE_DATABASE": name,
            "LLM_LABELER_API_BASE": model,
            "LLM_AUGMENTER_API_BASE": model,
            "LLM_TIMEOUT_SECONDS": "3",
            "TOPIC_PREFIX": name,
            "TOPIC_PARTITIONS": str(PARTITIONS),
            "TAXONOMY_PATH": str(TAXONOMY),
            "POLL_INTERVAL_SECONDS": "0.3",
            "POLL_LOOKBACK_SECONDS": "60",
            "LOG_FORMAT": "json",
            **more,
        }

    # --- ClickHouse ---

    async def query(self, sql: str, parameters: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Rows."""
        return await asyncio.to_thread(
            self._ask, lambda client: list(client.query(sql, parameters=parameters).result_rows)
        )

    async def command(self, sql: str) -> None:
        await asyncio.to_thread(self._ask, lambda client: client.command(sql))

    async def insert(self, table: str, rows: Sequence[Sequence[Any]], names: Sequence[str]) -> None:
        await asyncio.to_thread(self._ask, lambda client: client.insert(table, rows, column_names=names))

    def _ask(self, question: Callable[[Any], T]) -> T:
        """With a client of its own for the time; one that has failed is not used again."""
        client = self._clients.pop() if self._clients else self._client()
        try:
            answer = question(client)
        except BaseException:
            client.close()
            raise
        self._clients.append(client)
        return answer

    def close(self) -> None:
        """Close the clients."""
        while self._clients:
            self._clients.pop().close()

    def _client(self) -> Any:
        return clickhouse_connect.get_client(
            host="127.0.0.1",
            port=self.clickhouse_port,
            autogenerate_session_id=False,
            connect_timeout=3,
            send_receive_timeout=int(PATIENCE),
        )

    async def keep_doubles(self, database: str) -> None:
        """Have no merges in the result tables: they would take doubles away before they are counted."""
        for table in RESULTS:
            await self.command(f"SYSTEM STOP MERGES {database}.{table}")

    async def kill_clickhouse_in_an_insert(self, database: str, patience: float = 3.0) -> bool:
        """kill -9 while an insert into a result table runs; after ``patience`` seconds at any moment.

        Returns whether one ran.
        """
        sql = f"SELECT count() FROM system.processes WHERE query ILIKE '%INSERT INTO%{database}%'"
        sql += " AND query NOT ILIKE '%system.processes%'"

        def watch() -> bool:
            deadline = time.monotonic() + patience
            with contextlib.suppress(Exception), contextlib.closing(self._client()) as client:
                while time.monotonic() < deadline:
                    if int(client.query(sql).result_rows[0][0]):
                        return True
            return False

        met = await asyncio.to_thread(watch)
        await asyncio.to_thread(self.kill, "clickhouse")
        return met

    # --- the processes ---

    def kill(self, part: str) -> None:
        """kill -9 of a part's process; waits until it is gone."""
        pid = getattr(self._stack.status(), part).pid
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        until(lambda: getattr(self._stack.status(), part).pid is None, f"{part} is gone", pause=0.02)

    def start(self, part: str) -> None:
        """Start a part that was killed, on its former port and data; waits until it answers."""
        wanted = {name: name == part for name in ("kafka", "clickhouse", "llm")}
        self._stack.up(**wanted, llm_args=LLM_ARGS, taxonomy=TAXONOMY)  # type: ignore[arg-type]

    # --- the stand-in ---

    async def standin(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the stand-in's own pages, such as ``/faults`` or ``/stats/texts``."""

        def ask() -> Any:
            request = urllib.request.Request(
                f"http://127.0.0.1:{self.llm_port}{path}",
                method=method,
                data=json.dumps(body).encode() if body is not None else None,
            )
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return json.loads(answer.read())

        return await asyncio.to_thread(ask)


LLM_ARGS = ("--slots", "32", "--prefill-seconds", "0.02", "--token-seconds", "0.001")


@contextlib.contextmanager
def world(folder: Path) -> Iterator[World]:
    """The local stack in ``folder``, stopped at the end whatever happens."""
    stack = LocalStack(folder, jars_dir=shared_jars())
    try:
        with contextlib.closing(World(stack, stack.up(llm_args=LLM_ARGS, taxonomy=TAXONOMY))) as running:
            yield running
    finally:
        stack.down()


def as_program() -> None:
    """Clients of a broker that is killed are silent, and SIGTERM leaves no process behind."""
    for name in ("aiokafka", "clickhouse_connect"):
        logging.getLogger(name).setLevel(logging.CRITICAL)

    def end(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.exit(1)

    signal.signal(signal.SIGTERM, end)
