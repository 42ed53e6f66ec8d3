"""Promise 6: what cannot be read is kept with bytes, reason and origin; its neighbours are unharmed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from tests.faults.actors import Actor
from tests.faults.driver import initialise
from tests.faults.ledger import read_topic
from tests.faults.world import World
from tests.waiting import Watch

LARGE = 20_000_000
_NOW = datetime.now(UTC).isoformat()


def _row(row_id: str, text: str) -> bytes:
    return json.dumps(
        {"row_id": row_id, "text": text, "created_at": _NOW, "polled_at": _NOW}, ensure_ascii=False
    ).encode()


@dataclass(frozen=True)
class Poison:
    """``reasons``: what a dead letter may say. ``kept``: whether its bytes fit the dead-letter topic."""

    name: str
    value: bytes | None
    reasons: frozenset[str]
    kept: bool = True


_UNREADABLE = frozenset({"undecodable", "wrong-schema"})
POISON = (
    Poison("no JSON", b"\x00\xff\xfe not a message", _UNREADABLE),
    Poison("half of a message", _row("half", "обрыв")[:30], _UNREADABLE),
    Poison("not UTF-8", b'{"row_id": "\xff\xff", "text": "x"}', _UNREADABLE),
    Poison("another schema", b'{"order": 17, "items": []}', frozenset({"wrong-schema"})),
    Poison("no time zone", _row("zone", "текст").replace(b"+00:00", b""), frozenset({"wrong-schema"})),
    Poison("empty", b"", _UNREADABLE),
    Poison("no value", None, frozenset({"no-value"})),
    Poison("nearly too large", b"[" + b"1," * 490_000 + b"1]", frozenset({"wrong-schema"})),
    Poison("20 MB", b"{" + b" " * LARGE, _UNREADABLE, kept=False),
)


async def test_poison_is_isolated(parts: World, new_name: Callable[[], str], tmp_path: Path) -> None:
    name = new_name()
    environment = parts.environment(name)
    actors = [Actor(one, environment, tmp_path) for one in ("agents-1", "sink-1")]
    await parts.command(f"CREATE DATABASE IF NOT EXISTS {name}")
    await asyncio.to_thread(initialise, actors[0])
    await _allow_large_messages(parts, f"{name}.rows", f"{name}.labeled")
    places = await _send(parts, name)
    try:
        for actor in actors:
            actor.start()
        # Each poison once by the labeller; on the other topic once by the augmenter and once by the sink.
        letters = await _stored_letters(parts, name, 3 * len(POISON))
    finally:
        await asyncio.gather(*(asyncio.to_thread(actor.leave) for actor in actors))
    by_place = {(one["step"], one["topic"], one["partition"], one["offset"]): one for one in letters}
    assert len(by_place) == len(letters) == 3 * len(POISON)
    for (topic, index), (partition, offset) in places.items():
        poison = POISON[index]
        for step in ("label",) if topic == "rows" else ("augment", "store"):
            letter = by_place[step, f"{name}.{topic}", partition, offset]
            assert letter["reason"] in poison.reasons, poison.name
            assert letter["error"]
            assert letter["payload"] == ((poison.value or b"") if poison.kept else b""), poison.name
    # On the topic: bytes as value, the rest as headers.
    for message in await read_topic(parts, f"{name}.dead-letter", "read_uncommitted"):
        headers = {key: value.decode() for key, value in message.headers}
        key = (headers["step"], headers["topic"], int(headers["partition"]), int(headers["offset"]))
        assert by_place[key]["payload"] == (message.value or b"")
        assert headers["reason"] == by_place[key]["reason"]
    good = {f"good-{index}" for index in range(len(POISON) + 1)}
    for table in ("logs_labeled", "logs_augmented"):
        stored = await parts.query(f"SELECT row_id, count() FROM {name}.{table} GROUP BY row_id")
        assert dict(stored) == dict.fromkeys(good, 1), table


async def _allow_large_messages(parts: World, *topics: str) -> None:
    """By default the broker refuses them at the producer; here somebody has allowed them."""
    admin = AIOKafkaAdminClient(bootstrap_servers=parts.kafka)
    await admin.start()
    try:
        await admin.alter_configs(
            [
                ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": str(LARGE + 1_000_000)})
                for topic in topics
            ]
        )
    finally:
        await admin.close()


async def _send(parts: World, name: str) -> dict[tuple[str, int], tuple[int, int]]:
    """Poison between good rows, on the rows and on the labeled topic; where each poison went."""
    producer = AIOKafkaProducer(bootstrap_servers=parts.kafka, max_request_size=LARGE + 2_000_000)
    await producer.start()
    places = {}
    try:
        for index, poison in enumerate(POISON):
            good = f"good-{index}"
            await producer.send_and_wait(
                f"{name}.rows", _row(good, f"хороший запрос {index}"), key=good.encode(), partition=index % 3
            )
            for topic in ("rows", "labeled"):
                sent = await producer.send_and_wait(
                    f"{name}.{topic}", poison.value, key=b"poison", partition=index % 3
                )
                places[topic, index] = (sent.partition, sent.offset)
        last = f"good-{len(POISON)}"
        value = _row(last, "последний запрос")
        await producer.send_and_wait(f"{name}.rows", value, key=last.encode(), partition=0)
    finally:
        await producer.stop()
    return places


async def _stored_letters(parts: World, name: str, count: int) -> list[dict[str, Any]]:
    """The dead letters' table once it holds ``count`` rows and the good rows are through."""
    columns = ("step", "reason", "error", "topic", "partition", "offset", "hex(payload)")
    watch = Watch(f"{count} dead letters, and the good rows")
    while True:
        rows = await parts.query(f"SELECT {', '.join(columns)} FROM {name}.dead_letters")
        through = await parts.query(f"SELECT uniqExact(row_id) FROM {name}.logs_augmented")
        if len(rows) >= count and through[0][0] > len(POISON):
            break
        watch.look((len(rows), through[0][0]))
        await asyncio.sleep(0.5)
    names = (*columns[:-1], "payload")
    return [dict(zip(names, (*row[:-1], bytes.fromhex(row[-1])), strict=True)) for row in rows]
