"""The ledger: what a run's topics and tables hold, read without the product's code, and what is wrong."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.faults.plan import Plan
from tests.faults.world import PARTITIONS, RESULTS, World

TOPICS = ("rows", "labeled", "augmented", "dead-letter")
# Answers of a working endpoint that cannot be used: the only thing for which a row may be given up here.
_ALLOWED_REASONS = {"invalid-answer"}


@dataclass
class Ledger:
    """What was found. Places are `partition/offset`, by topic, then by (row id, version)."""

    source: Counter[str] = field(default_factory=Counter)  # plain id -> rows over the length rule
    skipped: set[str] = field(default_factory=set)
    seen: dict[str, dict[tuple[str, str], list[str]]] = field(default_factory=dict)
    committed: dict[str, dict[tuple[str, str], list[str]]] = field(default_factory=dict)
    letters: list[dict[str, str]] = field(default_factory=list)
    tables: dict[str, Counter[tuple[str, str]]] = field(default_factory=dict)
    places: dict[str, Counter[tuple[Any, ...]]] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    wrong: dict[str, str] = field(default_factory=dict)  # plain id -> what is wrong with it


async def read_topic(world: World, topic: str, isolation: str) -> list[Any]:
    """Every message of ``topic``, at an isolation level, by a consumer without a group."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=world.kafka,
        isolation_level=isolation,
        enable_auto_commit=False,
        # A position that is found late, on a topic that was just made, must not begin at the end.
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        places = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        await consumer.seek_to_beginning(*places)
        found: list[Any] = []
        while any([await consumer.position(place) < ends[place] for place in places]):
            for messages in (await consumer.getmany(timeout_ms=300)).values():
                found += messages
        return found
    finally:
        await consumer.stop()


def plain(row_id: str) -> str:
    """The source row's id: equal rows, and rows of one id, have something behind a `~`."""
    return row_id.partition("~")[0]


def _identity(message: Any) -> tuple[str, str]:
    headers = dict(message.headers)
    value = json.loads(message.value) if message.value else {}
    version = str(value.get("label_version") or headers.get("label-version", b"").decode())
    return str(value.get("row_id") or (message.key or b"").decode()), version


async def take_stock(world: World, name: str, plan: Plan) -> Ledger:
    """Read everything there is of the run called ``name``."""
    ledger = Ledger()
    skipped = {str(row.id) for batch in plan.batches for row in batch.rows if row.skip}
    for id_, count in await world.query(f"SELECT toString(id), count() FROM {name}.logs GROUP BY id"):
        if id_ in skipped:
            ledger.skipped.add(id_)
        else:
            ledger.source[id_] = count
    for topic in TOPICS:
        for store, isolation in ((ledger.seen, "read_uncommitted"), (ledger.committed, "read_committed")):
            messages = await read_topic(world, f"{name}.{topic}", isolation)
            found: dict[tuple[str, str], list[str]] = defaultdict(list)
            for message in messages:
                place = f"{message.partition}/{message.offset}"
                if topic == "dead-letter":
                    headers = {key: value.decode("utf-8", "replace") for key, value in message.headers}
                    if store is ledger.seen:
                        ledger.letters.append({**headers, "place": place})
                    identity = (headers.get("row-id", ""), headers.get("step", ""))
                else:
                    identity = _identity(message)
                found[identity].append(place)
            store[topic] = dict(found)
    for table in RESULTS:
        version = "step" if table == "dead_letters" else "label_version"
        rows = await world.query(
            f"SELECT row_id, {version}, count() FROM {name}.{table} GROUP BY row_id, {version}"
        )
        ledger.tables[table] = Counter({(row_id, kind): count for row_id, kind, count in rows})
        places = await world.query(
            f"SELECT _topic_id, _partition, _offset, count() FROM {name}.{table} "
            "GROUP BY _topic_id, _partition, _offset HAVING count() > 1"
        )
        ledger.places[table] = Counter({tuple(place): count for *place, count in places})
    return ledger


def judge(ledger: Ledger) -> list[str]:
    """Every breach of promises 1, 2 and 5, in words; none is what a run should end with."""
    given_up = {letter["row-id"] for letter in ledger.letters}
    labeled = {row_id for row_id, _ in ledger.tables["logs_labeled"]}
    augmented = {row_id for row_id, _ in ledger.tables["logs_augmented"]}
    stored_letters = {row_id for row_id, _ in ledger.tables["dead_letters"]}
    settled = Counter(plain(row_id) for row_id in labeled | stored_letters)
    for id_, count in ledger.source.items():
        if settled[id_] < count:
            _note(ledger, id_, f"missing: {count} in the source, {settled[id_]} labelled or given up")
        elif settled[id_] > count:
            _note(ledger, id_, f"{settled[id_]} row ids for {count} rows of the source")
    for id_ in settled.keys() & ledger.skipped:
        _note(ledger, id_, "should have been skipped")
    for id_ in settled.keys() - ledger.source.keys() - ledger.skipped:
        _note(ledger, id_, "is not in the source")
    for row_id in labeled - augmented - given_up:
        _note(ledger, row_id, "labelled, but neither with variants nor given up")
    for row_id in given_up - stored_letters:
        _note(ledger, row_id, "given up, but not in dead_letters")
    for isolation, store in (("read_uncommitted", ledger.seen), ("read_committed", ledger.committed)):
        for topic, found in store.items():
            for (row_id, version), places in found.items():
                if len(places) > 1:
                    _note(ledger, row_id, f"doubled on {topic} ({isolation}, {version}): {places}")
    for table, counts in ledger.tables.items():
        for (row_id, version), count in counts.items():
            if count > 1:
                _note(ledger, row_id, f"{count} times in {table} ({version})")
    for table, doubled in ledger.places.items():
        for place in doubled:
            ledger.violations.append(f"{table} holds the message {place} more than once")
    for letter in ledger.letters:
        if letter.get("reason") not in _ALLOWED_REASONS:
            _note(
                ledger,
                letter.get("row-id", "?"),
                f"given up by {letter.get('step')} for {letter.get('reason')}: {letter.get('error')}",
            )
    return ledger.violations


def _note(ledger: Ledger, row_id: str, what: str) -> None:
    ledger.violations.append(f"row {row_id}: {what}")
    ledger.wrong.setdefault(plain(row_id), what)


def trace(ledger: Ledger, logs: Mapping[str, Iterable[str]], most: int = 15) -> str:
    """Where each row that is wrong was last seen. ``logs``: a worker's name to lines of its log."""
    lines = []
    every = {name: list(found) for name, found in logs.items()}
    for id_, what in list(ledger.wrong.items())[:most]:
        lines.append(f"row {id_} ({what}); in the source {ledger.source.get(id_, 0)} times")
        for topic, found in ledger.seen.items():
            places = [(*key, *place) for key, place in found.items() if plain(key[0]) == id_]
            lines.append(f"    {topic}: {places or 'not there'}")
        for table, counts in ledger.tables.items():
            there = [(*key, count) for key, count in counts.items() if plain(key[0]) == id_]
            lines.append(f"    {table}: {there or 'not there'}")
        for name, found_lines in every.items():
            for line in [one for one in found_lines if f'"{id_}"' in one or f'"{id_}~' in one][-2:]:
                lines.append(f"    {name}: {line[:300]}")
    return "\n".join(lines)
