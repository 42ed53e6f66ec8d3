"""The roles as processes over a running stack, and plain clients to look at what they did.

Nothing here uses labelstream's own code to look: topics through aiokafka, tables through clickhouse-connect.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import clickhouse_connect
from aiokafka import AIOKafkaConsumer, TopicPartition

from connectors.local.processes import free_port
from connectors.local.stack import StackStatus
from tests.fork_server import Forked, run
from tests.waiting import PATIENCE, until

ROOT = Path(__file__).resolve().parents[2]


class Pipeline:
    """One pipeline: a topic prefix, a database, and settings of its own on a shared stack."""

    def __init__(self, stack: StackStatus, name: str, folder: Path, **settings: str) -> None:
        self.prefix = self.database = name
        self.folder = folder
        self.kafka = str(stack.kafka.address)
        self.llm = str(stack.llm.address)
        self.clickhouse_port = int(stack.clickhouse.port or 0)
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("LLM_", "KAFKA_"))},
            "PYTHONPATH": str(ROOT),
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka,
            "CLICKHOUSE_HOST": "127.0.0.1",
            "CLICKHOUSE_PORT": str(self.clickhouse_port),
            "CLICKHOUSE_DATABASE": name,
            "LLM_LABELER_API_BASE": self.llm,
            "LLM_AUGMENTER_API_BASE": self.llm,
            "TOPIC_PREFIX": name,
            "TOPIC_PARTITIONS": "4",
            "TAXONOMY_PATH": str(ROOT / "taxonomy.yaml"),
            "LABELSTREAM_DATA": str(folder / "data"),
            **settings,
        }
        self._running: list[Forked] = []
        self._looking: Any = None

    def command(self, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, in an empty folder."""
        return run(words, {**self.environment, **settings}, self.folder)

    def start(self, *roles: str, **settings: str) -> list[Forked]:
        """Start roles; their lines go to `<role>.log`."""
        return [self.begin("run", role, log=role, **settings) for role in roles]

    def begin(self, *words: str, log: str, errors: str = "", **settings: str) -> Forked:
        """A command in the background, its lines in ``<log>.log``, those on stderr in ``<errors>.log`` if
        that is given.
        """
        with self._file(log) as lines, self._file(errors or log) as others:
            started = Forked(
                words, {**self.environment, **settings}, self.folder, lines.fileno(), others.fileno()
            )
        self._running.append(started)
        return started

    def _file(self, log: str) -> BinaryIO:
        return (self.folder / f"{log}.log").open("ab")

    def log(self, role: str) -> str:
        path = self.folder / f"{role}.log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def running(self) -> list[Forked]:
        """Those that were started here and have not ended."""
        return [process for process in self._running if process.poll() is None]

    def stop(self) -> None:
        """End every role that was started here."""
        if self._looking is not None:
            self._looking.close()
            self._looking = None
        for process in self._running:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self._running:
            try:
                process.wait(PATIENCE / 10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(PATIENCE)

    def clickhouse(self) -> Any:
        return clickhouse_connect.get_client(
            host="127.0.0.1", port=self.clickhouse_port, autogenerate_session_id=False
        )

    def create(self) -> None:
        """Its database with an empty source table of three columns, its topics and result tables."""
        client = self.clickhouse()
        client.command(f"CREATE DATABASE {self.database}")
        client.command(
            f"CREATE TABLE {self.database}.logs (id UInt64, query_text String, created_at DateTime) "
            "ENGINE = MergeTree ORDER BY id"
        )
        client.close()
        assert self.command("init").returncode == 0

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        if self._looking is None:  # a client asks four questions before the first one
            self._looking = self.clickhouse()
        return list(self._looking.query(sql).result_rows)

    def count(self, table: str) -> int:
        return int(self.rows(f"SELECT count() FROM {self.database}.{table}")[0][0])

    async def topic(self, name: str, isolation: str = "read_uncommitted", partitions: int = 4) -> list[Any]:
        """Every message of ``<prefix>.<name>``."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.kafka, group_id=None, isolation_level=isolation, enable_auto_commit=False
        )
        await consumer.start()
        try:
            places = [TopicPartition(f"{self.prefix}.{name}", number) for number in range(partitions)]
            consumer.assign(places)
            await consumer.seek_to_beginning(*places)
            ends = await consumer.end_offsets(places)
            found: list[Any] = []
            while any([await consumer.position(place) < ends[place] for place in places]):
                for messages in (await consumer.getmany(timeout_ms=200)).values():
                    found += messages
            return found
        finally:
            await consumer.stop()

    def explain(self) -> str:
        """The roles' logs, for a failed assertion."""
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(f"--- {log.name}\n{log.read_text('utf-8', 'replace')[-3000:]}" for log in logs)

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Until ``condition`` holds; a failure says ``what`` was waited for, with the roles' logs."""
        until(condition, lambda: f"{what}\n{self.explain()}", measure=self._written, pause=0.15)

    def wait_for_variants(self, count: int, what: str) -> None:
        """Until the tables hold the variants of ``count`` rows, and the labels: these may come later."""
        self.wait(lambda: self.count("logs_augmented") == count and self.count("logs_labeled") >= count, what)

    def _written(self) -> list[int]:
        """The sizes of the roles' logs, which grow as long as they do something."""
        return [log.stat().st_size for log in sorted(self.folder.glob("*.log"))]


def keys(messages: Sequence[Any]) -> list[str]:
    return [message.key.decode() for message in messages]


def standin(base: str, path: str = "/stats") -> dict[str, Any]:
    """What the stand-in says of itself."""
    with urllib.request.urlopen(base.removesuffix("/v1") + path, timeout=PATIENCE) as answer:
        found: dict[str, Any] = json.loads(answer.read())
        return found


class Door:
    """A port of 127.0.0.1 that is closed at first; `open` lets connections through to ``target``."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self.port = free_port()
        self._server: socket.socket | None = None
        self._connected: list[socket.socket] = []

    def open(self) -> None:
        self._server = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                inner, _ = server.accept()
                outer = socket.create_connection(self._target)
            except OSError:
                return
            self._connected += (inner, outer)
            threading.Thread(target=self._serve, args=(inner, outer), daemon=True).start()

    def _serve(self, inner: socket.socket, outer: socket.socket) -> None:
        with inner, outer:
            back = threading.Thread(target=self.pump, args=(outer, inner, False), daemon=True)
            back.start()
            self.pump(inner, outer, True)
            back.join()

    def pump(self, source: socket.socket, drain: socket.socket, asks: bool) -> None:
        """Pass on until one side ends. ``asks``: ``source`` is the client."""
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self.passes(source, data, asks)
                drain.sendall(data)
        for one in (source, drain):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def passes(self, source: socket.socket, data: bytes, asks: bool) -> None:
        """``data`` passes, from ``source``."""
