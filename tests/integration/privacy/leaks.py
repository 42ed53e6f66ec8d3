"""Where rows with personal data come in, and all places where it might come out."""

from __future__ import annotations

import contextlib
import json
import socket
import urllib.request
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from tests.fork_server import Forked
from tests.integration.file_service import Service
from tests.integration.pipeline import ROOT, Door, Pipeline
from tests.integration.privacy.secrets import Row
from tests.waiting import PATIENCE

SECRET = "1:a secret for the search of leaks"
NO_TIME = 50  # each so many rows one without a time
# What requests hold of words that are nobody's.
CLEAN = ("taxonomy.yaml", *(f"agents/prompts/{one}.txt" for one in ("label", "augment", "choice")))
PAGES = (
    *("/labels?limit=200", "/jobs", "/uploads", "/review"),
    *("/page/overview", "/page/letters", "/page/audit", "/page/replays", "/page/versions"),
    *("/quality", "/quality/rows"),
)


def clean_texts() -> list[str]:
    """Of the repository: prompts and the taxonomy."""
    return [(ROOT / path).read_text("utf-8") for path in CLEAN]


class Tap(Door):
    """A port before a server; keeps what is sent to it."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.sent: list[bytes] = []
        self._last: dict[socket.socket, bytes] = {}

    def close(self) -> None:
        """End every connection too."""
        super().close()
        for one in self._connected:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def passes(self, source: socket.socket, data: bytes, asks: bool) -> None:
        if asks:
            # A secret may be cut in two; from a space on, so that no word is.
            before = self._last.get(source, b"")[-1_000:].partition(b" ")[2]
            self.sent.append(before + data)
            self._last[source] = data


def create(flow: Pipeline) -> None:
    """A source table with users and sessions whose rows may have no time, topics and result tables."""
    client = flow.clickhouse()
    client.command(f"CREATE DATABASE {flow.database}")
    client.command(
        f"CREATE TABLE {flow.database}.logs (id UInt64, query_text String, domain Nullable(String), "
        "created_at Nullable(DateTime), user_id Nullable(String), session_id Nullable(String)) "
        "ENGINE = MergeTree ORDER BY id"
    )
    client.close()
    done = flow.command("init")
    assert done.returncode == 0, done.stderr


def insert(flow: Pipeline, first: int, rows: Sequence[Row], *, days_ago: int = 0) -> int:
    """``rows`` into the source table; each 50th has no time, of those of today. Returns how many have one."""
    at = datetime.now(UTC) - timedelta(days=days_ago)
    lines = []
    for number, row in enumerate(rows):
        timed = days_ago > 0 or number % NO_TIME != NO_TIME - 1
        when = at - timedelta(seconds=number % 60) if timed else None
        lines.append([first + number, row.text, row.domain, when, row.user, row.session])
    names = ["id", "query_text", "domain", "created_at", "user_id", "session_id"]
    client = flow.clickhouse()
    client.insert("logs", lines, column_names=names, database=flow.database)
    client.close()
    return sum(line[3] is not None for line in lines)


def metrics(flow: Pipeline) -> Iterator[tuple[str, bytes]]:
    """State and metrics of each role."""
    for note in (flow.folder / "data" / "run").glob("*.json"):
        url = json.loads(note.read_text())["url"]
        for path in ("/metrics", "/state", "/healthz", "/readyz"):
            try:
                with urllib.request.urlopen(url + path, timeout=PATIENCE) as answer:
                    yield f"{note.stem}{path}", answer.read()
            except OSError:
                continue  # it was killed


async def on_topics(flow: Pipeline) -> list[tuple[str, bytes]]:
    """Keys, values, headers with their names, of every topic of the pipeline, and of the groups' commits."""
    admin = AIOKafkaAdminClient(bootstrap_servers=flow.kafka)
    await admin.start()
    try:
        names = [name for name in await admin.list_topics() if name.startswith(f"{flow.prefix}.")]
        described = await admin.describe_topics([*sorted(names), "__consumer_offsets"])
    finally:
        await admin.close()
    consumer = AIOKafkaConsumer(bootstrap_servers=flow.kafka, group_id=None, enable_auto_commit=False)
    await consumer.start()
    found = []
    try:
        for topic in described:
            name = topic["topic"]
            places = [TopicPartition(name, one["partition"]) for one in topic["partitions"]]
            assert places, f"{name} is not read"
            consumer.assign(places)
            await consumer.seek_to_beginning(*places)
            ends = await consumer.end_offsets(places)
            while any([await consumer.position(place) < ends[place] for place in places]):
                for messages in (await consumer.getmany(timeout_ms=200)).values():
                    for one in messages:
                        headers = [part for key, value in one.headers for part in (key.encode(), value)]
                        content = b"\n".join([one.key or b"", one.value or b"", *headers])
                        found.append((f"topic {one.topic}/{one.partition}/{one.offset}", content))
    finally:
        await consumer.stop()
    return found


async def everything(flow: Pipeline) -> list[tuple[str, bytes]]:
    """All that is on the topics, in the tables but the source, in logs, in files but the uploads, and what
    the roles tell."""
    places = await on_topics(flow)
    for topic in ("rows", "labeled", "augmented"):
        assert any(place.startswith(f"topic {flow.prefix}.{topic}/") for place, _ in places), topic
    tables = flow.rows(f"SELECT name FROM system.tables WHERE database = '{flow.database}'")
    for (name,) in tables:
        if name != "logs":
            content = "\n".join(map(repr, flow.rows(f"SELECT * FROM {flow.database}.{name}")))
            places.append((f"table {name}", content.encode("utf-8", "replace")))
    for one in flow.folder.rglob("*"):
        within = one.relative_to(flow.folder)
        if (
            one.is_file()
            and within.parts[:2] != ("data", "uploads")
            and within.parts[0] not in ("stack", "given")
        ):
            places.append((f"file {within}", one.read_bytes()))
    return [*places, *metrics(flow)]


def kill_workers(roles: Sequence[Forked]) -> int:
    """Kill the masking processes of ``roles``; how many there were."""
    killed = 0
    for role in roles:
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(role.pid).children(recursive=True):
                if "streams.privacy.worker" in child.cmdline():
                    child.kill()
                    killed += 1
    return killed


def answers(service: Service) -> Iterator[tuple[str, bytes]]:
    """What the API and the page's routes answer."""
    for path in PAGES:
        yield path, service.client.get(path).content
    for one in service.told("GET", "/uploads")["uploads"]:
        for path in (f"/uploads/{one['file_id']}", f"/uploads/{one['file_id']}/broken"):
            yield path, service.client.get(path).content
    yield "/review/claim", service.client.post("/review/claim", params={"want": 20}).content


def told_by_commands(flow: Pipeline) -> Iterator[tuple[str, bytes]]:
    """What commands print."""
    commands: tuple[tuple[str, ...], ...] = (
        ("status", "--json"),
        ("dead-letters", "list", "--json"),
        ("versions", "list", "--json"),
        ("evaluate", "--json"),
        ("gold", "export"),
        ("privacy", "scan", "--json"),
    )
    for words in commands:
        done = flow.command(*words)
        yield " ".join(words), (done.stdout + done.stderr).encode()


def answer_of(service: Service, method: str, path: str, **arguments: Any) -> tuple[int, bytes]:
    """Status and body."""
    answer = service.client.request(method, path, **arguments)
    return answer.status_code, answer.content
