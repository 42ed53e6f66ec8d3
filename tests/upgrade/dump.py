"""A dump of one pipeline: its tables, topics and groups, as a release wrote them. Upgrade tests restore it.

The folder `tests/data/<release>` holds::

    manifest.json            names, topics (id, partitions, settings), groups (offsets with metadata), tables
    tables/<table>.sql       what SHOW CREATE TABLE says
    tables/<table>.jsonl.gz  its rows, as ClickHouse writes JSONEachRow: strings are bytes, not always UTF-8
    topics/<topic>.jsonl.gz  a message a line: partition, offset, timestamp (ms), key, value, headers (base64)

A dump is restored under a new name, so that several fit on one stack. The name that it was made under, which
is its database and its topic prefix, and the ids of its topics are replaced wherever they occur.
Nothing here uses labelstream's own code.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import clickhouse_connect
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import OffsetAndMetadata
from confluent_kafka import TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

DATA = Path(__file__).resolve().parents[1] / "data"
_SECONDS = 300


@dataclass(frozen=True)
class Message:
    """One message of a topic. ``timestamp``: milliseconds since 1970."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True)
class Committed:
    """A consumer group's committed offset of one partition."""

    group: str
    topic: str
    partition: int
    offset: int
    metadata: str


@dataclass(frozen=True)
class Topic:
    """A topic. ``settings``: those that were set for it, by Kafka's names."""

    name: str
    id: str
    partitions: int
    settings: dict[str, str]


@dataclass(frozen=True)
class Table:
    """A table or a view: its DDL, and its rows as lines of JSONEachRow, sorted."""

    name: str
    view: bool
    ddl: str
    rows: tuple[bytes, ...]


@dataclass(frozen=True)
class Dump:
    """All of a pipeline. ``name``: its database and topic prefix. ``note``: how it was made."""

    name: str
    note: dict[str, Any]
    tables: tuple[Table, ...]
    topics: tuple[Topic, ...]
    messages: dict[str, tuple[Message, ...]]  # by topic, in order of partition and offset
    committed: tuple[Committed, ...]

    def renamed(self, name: str, topic_ids: dict[str, str]) -> Dump:
        """The same pipeline under ``name``, its topics having ``topic_ids`` (by their new names)."""
        pairs = [(self.name, name)]
        pairs += [(one.id, topic_ids[one.name.replace(self.name, name)]) for one in self.topics]

        def text(value: str) -> str:
            for old, new in pairs:
                value = value.replace(old, new)
            return value

        def data(value: bytes) -> bytes:
            for old, new in pairs:
                value = value.replace(old.encode(), new.encode())
            return value

        return Dump(
            name,
            self.note,
            tuple(
                Table(one.name, one.view, text(one.ddl), tuple(sorted(map(data, one.rows))))
                for one in self.tables
            ),
            tuple(Topic(text(one.name), text(one.id), one.partitions, one.settings) for one in self.topics),
            {
                text(topic): tuple(_message(one, data) for one in messages)
                for topic, messages in self.messages.items()
            },
            tuple(
                Committed(text(one.group), text(one.topic), one.partition, one.offset, text(one.metadata))
                for one in self.committed
            ),
        )


def _message(one: Message, data: Callable[[bytes], bytes]) -> Message:
    key = None if one.key is None else data(one.key)
    value = None if one.value is None else data(one.value)
    headers = tuple((name, data(header)) for name, header in one.headers)
    return Message(one.partition, one.offset, one.timestamp, key, value, headers)


# --- a running pipeline ---


async def read(kafka: str, clickhouse_port: int, name: str, note: dict[str, Any]) -> Dump:
    """All of the pipeline ``name``, whose roles are stopped."""
    topics = await asyncio.to_thread(_topics, kafka, f"{name}.")
    return Dump(
        name,
        note,
        await asyncio.to_thread(_tables, clickhouse_port, name),
        topics,
        {topic.name: await _messages(kafka, topic) for topic in topics},
        await _committed(kafka, f"{name}-"),
    )


async def restore(dump: Dump, kafka: str, clickhouse_port: int, name: str) -> Dump:
    """Restore ``dump`` under ``name``, which nothing on the stack uses yet; returns what `read` finds then.

    Retention is off for the topics, since their messages may be older than it allows.
    """
    await asyncio.to_thread(_create_topics, dump, kafka, name)
    topics = await asyncio.to_thread(_topics, kafka, f"{name}.")
    renamed = dump.renamed(name, {topic.name: topic.id for topic in topics})
    for messages in renamed.messages.items():
        await _publish(kafka, *messages)
    await _commit(kafka, renamed.committed)
    await asyncio.to_thread(_create_tables, renamed, clickhouse_port)
    return renamed


def _tables(port: int, database: str) -> tuple[Table, ...]:
    with contextlib.closing(_client(port)) as client:
        found = client.query(
            "SELECT name, engine = 'View' FROM system.tables WHERE database = {database:String} "
            "ORDER BY engine = 'View', name",
            parameters={"database": database},
        ).result_rows
        tables = []
        for name, view in found:
            ddl = client.raw_query(f"SHOW CREATE TABLE `{database}`.`{name}` FORMAT TSVRaw").decode()
            rows = client.raw_query(f"SELECT * FROM `{database}`.`{name}` FORMAT JSONEachRow")
            tables.append(Table(name, bool(view), ddl.strip() + "\n", tuple(sorted(rows.split(b"\n")[:-1]))))
    return tuple(tables)


def _create_tables(dump: Dump, port: int) -> None:
    with contextlib.closing(_client(port)) as client:
        client.command(f"CREATE DATABASE `{dump.name}`")
        for table in dump.tables:
            client.command(table.ddl)
            if not table.view and table.rows:
                client.raw_insert(
                    f"`{dump.name}`.`{table.name}`",
                    insert_block=b"\n".join(table.rows) + b"\n",
                    fmt="JSONEachRow",
                    settings={"optimize_on_insert": 0},  # equal keys were not merged yet
                )


def _client(port: int) -> Any:
    return clickhouse_connect.get_client(host="127.0.0.1", port=port, autogenerate_session_id=False)


def _topics(kafka: str, prefix: str) -> tuple[Topic, ...]:
    admin = AdminClient({"bootstrap.servers": kafka})
    names = sorted(name for name in admin.list_topics(timeout=_SECONDS).topics if name.startswith(prefix))
    described = admin.describe_topics(TopicCollection(names))
    asked = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    configs = admin.describe_configs(asked)
    found = []
    for name, resource in zip(names, asked, strict=True):
        topic = described[name].result(_SECONDS)
        # Source 1: set for this topic, not a default of the broker.
        settings = {
            entry.name: entry.value
            for entry in configs[resource].result(_SECONDS).values()
            if entry.source == 1
        }
        found.append(Topic(name, str(_uuid(topic.topic_id)), len(topic.partitions), settings))
    return tuple(found)


def _uuid(topic_id: Any) -> UUID:
    high, low = topic_id.get_most_significant_bits(), topic_id.get_least_significant_bits()
    return UUID(int=((high & (1 << 64) - 1) << 64) | (low & (1 << 64) - 1))


def _create_topics(dump: Dump, kafka: str, name: str) -> None:
    admin = AdminClient({"bootstrap.servers": kafka})
    kept = {"retention.ms": "-1", "message.timestamp.after.max.ms": str(2**63 - 1)}
    asked = [
        NewTopic(topic.name.replace(dump.name, name), topic.partitions, 1, config={**topic.settings, **kept})
        for topic in dump.topics
    ]
    for made in admin.create_topics(asked).values():
        made.result(_SECONDS)


async def _messages(kafka: str, topic: Topic) -> tuple[Message, ...]:
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, group_id=None, enable_auto_commit=False)
    await consumer.start()
    try:
        places = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        ends = await consumer.end_offsets(places)
        found: list[Message] = []
        while any([await consumer.position(place) < ends[place] for place in places]):
            for messages in (await consumer.getmany(timeout_ms=200)).values():
                found += [
                    Message(one.partition, one.offset, one.timestamp, one.key, one.value, tuple(one.headers))
                    for one in messages
                ]
        return tuple(sorted(found, key=lambda one: (one.partition, one.offset)))
    finally:
        await consumer.stop()


async def _publish(kafka: str, topic: str, messages: Sequence[Message]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    try:
        for one in messages:
            sent = await producer.send_and_wait(
                topic,
                one.value,
                key=one.key,
                partition=one.partition,
                timestamp_ms=one.timestamp,
                headers=list(one.headers),
            )
            assert sent.offset == one.offset, f"{topic}/{one.partition}: {sent.offset}, not {one.offset}"
    finally:
        await producer.stop()


async def _committed(kafka: str, prefix: str) -> tuple[Committed, ...]:
    # Not by confluent-kafka: what it gives as metadata may end in bytes that were never committed.
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        found = []
        for group in [name for name, *_ in await admin.list_consumer_groups() if name.startswith(prefix)]:
            for place, one in (await admin.list_consumer_group_offsets(group)).items():
                found.append(Committed(group, place.topic, place.partition, one.offset, one.metadata))
        return tuple(sorted(found, key=lambda one: (one.group, one.topic, one.partition)))
    finally:
        await admin.close()


async def _commit(kafka: str, committed: Sequence[Committed]) -> None:
    for group in {one.group for one in committed}:
        consumer = AIOKafkaConsumer(bootstrap_servers=kafka, group_id=group, enable_auto_commit=False)
        await consumer.start()
        try:
            offsets = {
                TopicPartition(one.topic, one.partition): OffsetAndMetadata(one.offset, one.metadata)
                for one in committed
                if one.group == group
            }
            consumer.assign(list(offsets))
            await consumer.commit(offsets)
        finally:
            await consumer.stop()


# --- the files ---


def write(dump: Dump, folder: Path) -> None:
    """Write the files. The same dump makes the same bytes."""
    manifest = {
        "name": dump.name,
        "note": dump.note,
        "tables": [{"name": one.name, "view": one.view} for one in dump.tables],
        "topics": [vars(one) for one in dump.topics],
        "committed": [vars(one) for one in dump.committed],
    }
    for part in ("tables", "topics"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    text = json.dumps(manifest, indent=1, ensure_ascii=False)
    (folder / "manifest.json").write_text(f"{text}\n", "utf-8")
    for table in dump.tables:
        (folder / "tables" / f"{table.name}.sql").write_text(table.ddl, "utf-8")
        _pack(folder / "tables" / f"{table.name}.jsonl.gz", table.rows)
    for topic, messages in dump.messages.items():
        _pack(folder / "topics" / f"{topic}.jsonl.gz", [_line(one) for one in messages])


def load(release: str) -> Dump:
    """The dump of ``release``, such as ``0.1.0``."""
    folder = DATA / release
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    topics = tuple(Topic(**one) for one in manifest["topics"])
    return Dump(
        manifest["name"],
        manifest["note"],
        tuple(
            Table(
                one["name"],
                one["view"],
                (folder / "tables" / f"{one['name']}.sql").read_text("utf-8"),
                tuple(_unpack(folder / "tables" / f"{one['name']}.jsonl.gz")),
            )
            for one in manifest["tables"]
        ),
        topics,
        {
            topic.name: tuple(_parsed(line) for line in _unpack(folder / "topics" / f"{topic.name}.jsonl.gz"))
            for topic in topics
        },
        tuple(Committed(**one) for one in manifest["committed"]),
    )


def _pack(path: Path, lines: Sequence[bytes]) -> None:
    path.write_bytes(gzip.compress(b"".join(line + b"\n" for line in lines), 9, mtime=0))


def _unpack(path: Path) -> list[bytes]:
    return gzip.decompress(path.read_bytes()).split(b"\n")[:-1]


def _line(one: Message) -> bytes:
    return json.dumps(
        {
            "partition": one.partition,
            "offset": one.offset,
            "timestamp": one.timestamp,
            "key": _text(one.key),
            "value": _text(one.value),
            "headers": [[name, _text(value)] for name, value in one.headers],
        }
    ).encode()


def _parsed(line: bytes) -> Message:
    one = json.loads(line)
    headers = tuple((name, base64.b64decode(value)) for name, value in one["headers"])
    return Message(
        one["partition"], one["offset"], one["timestamp"], _bytes(one["key"]), _bytes(one["value"]), headers
    )


def _text(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)
