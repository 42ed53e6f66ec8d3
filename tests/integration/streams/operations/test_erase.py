"""One user's rows are erased while others' are stored, and the sink's group is rewound afterwards."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from connectors.kafka.connection import connection
from connectors.kafka.lag import LagReader
from connectors.kafka.producer import LeasedProducer
from connectors.kafka.tail import TailReader
from streams.core.codec import encode, encode_dead_letter, headers_of
from streams.core.environment import load
from streams.core.messages import DeadLetter, Message
from streams.core.records import Outgoing
from streams.core.topics import Topics
from streams.operations.erase import erase
from streams.ports.lookups import Place
from streams.ports.review import item_key
from streams.review.leases import decision_message
from tests.integration.pipeline import Pipeline
from tests.kafka_tools import reset_offsets
from tests.unit.connectors.clickhouse.sink.fakes import augmented, labeled
from tests.unit.connectors.files.test_strangers import received
from tests.waiting import eventually

ROWS = 60
HERS = range(0, ROWS, 6)


def _user(number: int) -> str:
    return "anna" if number in HERS else f"user-{number % 6}"


def _row(number: int, **changes: Any) -> dict[str, Any]:
    return {"user_id": _user(number), "label": ("login", "payment")[number % 2], **changes}


def _out(topic: str, message: Message) -> Outgoing:
    key = str(getattr(message, "row_id", "")).encode()
    return Outgoing(topic, 0, key, encode(message), headers_of(message))


def _counts(flow: Pipeline) -> dict[str, Counter[Any]]:
    database = flow.database
    asked = {
        "labels": f"label_version, toDate(created_at), label FROM {database}.logs_labeled",
        "current": f"toDate(created_at), label FROM {database}.logs_labeled_current",
        "variants": f"toDate(created_at), label FROM {database}.logs_augmented",
        "letters": f"step, reason FROM {database}.dead_letters",
    }
    return {name: Counter(flow.rows(f"SELECT {what}")) for name, what in asked.items()}


def _everything(flow: Pipeline) -> str:
    tables = ("logs_labeled", "logs_augmented", "dead_letters", "review_answers", "audit_log", "erasures")
    return "\n".join(
        str(line)
        for table in tables
        for (line,) in flow.rows(f"SELECT toString(tuple(*)) FROM {flow.database}.{table}")
    )


async def _topics_of(flow: Pipeline) -> tuple[Topics, LeasedProducer]:
    """The topics with the rows of ten users, their variants, dead letters and a reviewer's decision."""
    topics, producer = Topics(flow.prefix), LeasedProducer(connection(load(flow.environment, None)))
    for number in range(ROWS):
        await producer.send(_out(topics.labeled, labeled(number, **_row(number))))
        await producer.send(_out(topics.augmented, augmented(number, **_row(number))))
    for number in (6, 7):
        letter = DeadLetter(
            row_id=str(number),
            step="augment",
            reason="refusal",
            failed_at=datetime.now(UTC),
            payload=encode(labeled(number, **_row(number))),
        )
        value, headers = encode_dead_letter(letter)
        await producer.send(Outgoing(topics.dead_letter, 0, None, value, headers))
        place = Place(labeled(number).created_at, str(number))
        await producer.send(decision_message(topics, item_key(place, "audit"), "vera/1", "skip"))
    return topics, producer


async def test_an_erased_user_is_nowhere_and_a_rewound_sink_brings_nothing_back(
    make: Callable[..., Pipeline],
) -> None:
    flow = make()
    flow.create()
    settings = load(flow.environment, None)
    arguments = connection(settings)
    data = Path(settings.labelstream_data)
    topics, producer = await _topics_of(flow)
    try:
        for who in ("anna", "boris"):
            await received(data, f"text,user_id\nне могу войти в кабинет,{who}\n".encode())
        export = data / "exports" / "clickhouse_20260301.csv"
        export.parent.mkdir()
        kept = b'"text","domain","ts","user_id"\n"a ""b""\nc",,2026-03-01 12:00:00.000000Z,"boris"\n'
        export.write_bytes(kept + b'"d",,2026-03-01 12:00:00.000000Z,"anna"\n')
        flow.start("sink")
        flow.wait(lambda: flow.count("logs_augmented") == ROWS, "all is stored")
        flow.wait(lambda: flow.count("dead_letters") == 2, "all letters are stored")
        before = _counts(flow)
        looked = await erase(settings, "user", "anna", dry_run=True)
        assert _counts(flow) == before
        assert looked.found == {
            "logs_labeled": len(HERS),
            "logs_augmented": len(HERS),
            "review_answers": 0,
            "dead_letters": 1,
            "audit_log": 0,
            "review topic": 1,
            "uploads": 1,
            "exports": 1,
            "jobs": 0,
        }
        erasing = asyncio.create_task(erase(settings, "user", "anna"))
        # Meanwhile rows come that she has sent before, some already known under a version, and others' rows.
        later = 0
        while not erasing.done():
            number = ROWS + later
            later += 1
            for version in ("v1", "v2"):
                row = _row(number, label_version=version)
                await producer.send(_out(topics.labeled, labeled(number, **row)))
            again = _row(later % ROWS, label_version="v2")
            await producer.send(_out(topics.labeled, labeled(later % ROWS, **again)))
            await asyncio.sleep(0.05)
        report = await erasing
        assert report.complete, report
        assert report.gone | {"logs_labeled": 0} == looked.found | {"logs_labeled": 0}
        assert {one["where"] for one in report.kept} >= {topics.rows, topics.labeled, settings.source_table}
        assert not [path for path in (data / "uploads").iterdir() if b"anna" in path.read_bytes()]
        assert len(list((data / "uploads").glob("*.data"))) == 1
        assert export.read_bytes() == kept
        new = labeled(999, **_row(0, created_at=datetime.now(UTC) + timedelta(seconds=1), label_version="v3"))
        await producer.send(_out(topics.labeled, new))
        flow.wait(
            lambda: flow.rows(f"SELECT 1 FROM {flow.database}.logs_labeled WHERE row_id = '999'"), "a new row"
        )
    finally:
        await producer.stop()
    flow.stop()
    after = _counts(flow)
    left = _everything(flow).replace(_line(flow, "999"), "")
    assert "anna" not in left
    assert after["variants"] == before["variants"]
    assert after["letters"] == before["letters"]
    for key, count in before["labels"].items():
        assert after["labels"][key] >= count
    decided = {
        record.key: record.value
        async for some in TailReader(arguments).read(topics.review, 0, 0)
        for record in some
        if b"/" in (record.key or b"")  # the others only asked whether the topic may be written
    }
    assert sorted(value is None for value in decided.values()) == [False, True]
    await reset_offsets(flow.kafka, topics.groups.sink.name)
    flow.start("sink")
    async with LagReader(arguments) as lags:

        async def read() -> bool:
            found = await lags.positions(topics.groups.sink.name, [topics.labeled])
            return sum(max(0, one.offset) for one in found.values()) >= ROWS + 3 * later + 1

        await eventually(read, flow.explain, measure=lambda: flow.log("sink"))
    assert _counts(flow) == after
    second = await erase(settings, "row", "6", settle=0.0)
    assert not any(second.found.values())
    assert json.dumps(second.as_dict())


def _line(flow: Pipeline, row_id: str) -> str:
    return str(
        flow.rows(f"SELECT toString(tuple(*)) FROM {flow.database}.logs_labeled WHERE row_id = '{row_id}'")[
            0
        ][0]
    )
