"""Columns from messages: the fast way must never disagree with the codec about what a message is."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import orjson
import pytest

from connectors.clickhouse.sink import batch as batches
from connectors.clickhouse.sink.batch import dead_letter_batch, to_batch
from streams.core.codec import decode, encode, encode_dead_letter
from streams.core.errors import UndecodableError
from streams.core.messages import Augmented, DeadLetter, Labeled
from streams.core.records import Record
from streams.observability.collectors import release
from tests.unit.connectors.clickhouse.sink.fakes import TOPICS, FakeKafka, augmented, labeled

TOPIC_ID = uuid4()


def records(*values: bytes | None) -> list[Record]:
    kafka = FakeKafka()
    return [kafka.put(TOPICS.labeled, 3, value) for value in values]


def test_the_fast_way_reads_whole_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_decoded_strictly", None)  # must not be needed
    messages = [
        labeled(1),
        labeled(2, text="два\nстроки\u2028\x00", confidence=None, alternatives=[], source_domain="house"),
        labeled(3, confidence=1, cached=True),
        labeled(4, decided_by="proxy", proxy_generation=3),
    ]
    batch, refused = to_batch(Labeled, records(*map(encode, messages)), TOPIC_ID)
    assert refused == []
    for row, message in zip(batch.rows.to_pylist(), messages, strict=True):
        assert {name: row[name] for name in Labeled.model_fields} == message.model_dump()
        assert (row["_topic"], row["_topic_id"], row["_partition"]) == (TOPICS.labeled, TOPIC_ID.bytes, 3)
    assert batch.rows["_offset"].to_pylist() == [0, 1, 2, 3]
    assert set(batch.rows["_writer"].to_pylist()) == {release()}


def test_messages_of_older_releases_say_who_decided_and_are_read_as_fast(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batches, "_decoded_strictly", None)
    messages = [labeled(1), labeled(2, label_version="human"), labeled(3, text='"decided_by":null')]
    older = [
        orjson.dumps(
            {k: v for k, v in one.model_dump().items() if k not in ("decided_by", "proxy_generation")}
        )
        for one in messages
    ]
    newer = encode(labeled(4, decided_by="proxy", proxy_generation=1))
    batch, refused = to_batch(Labeled, records(*older, newer), TOPIC_ID)
    assert refused == []
    assert batch.rows["decided_by"].to_pylist() == ["llm", "human", "llm", "proxy"]
    assert batch.rows["proxy_generation"].to_pylist() == [None, None, None, 1]


def test_both_ways_make_the_same_columns() -> None:
    message = augmented(5, rejected=[], variants=["a", "b"])
    value = encode(message)
    fast, _ = to_batch(Augmented, records(value), TOPIC_ID)
    slow, _ = to_batch(Augmented, records(b" " + value), TOPIC_ID)  # the blank sends it through the codec
    assert fast.rows.equals(slow.rows)


def changed(**changes: Any) -> bytes:
    return orjson.dumps({**orjson.loads(encode(labeled(1))), **changes})


ODD = {
    "null": None,
    "empty": b"",
    "garbage": b"\xff\x00\xfe",
    "cut": encode(labeled(1))[:-9],
    "two in one": encode(labeled(1)) + encode(labeled(2)),
    "array": b"[1, 2]",
    "braces": b"{}",
    "bad utf-8": encode(labeled(1)).replace(b"login", b"\xff\xfe"),
    "lone surrogate": encode(labeled(1)).replace(b'"login"', b'"\\ud800"'),
    "no label": changed(label=None),
    "number for text": changed(text=5),
    "empty text": changed(text=""),
    "confidence 1.5": changed(confidence=1.5),
    "confidence text": changed(confidence="high"),
    "confidence nan": encode(labeled(1)).replace(b"0.9", b"NaN"),
    "decided by nobody": changed(decided_by=None),
    "decided by a coin": changed(decided_by="coin"),
    "generation 0": changed(proxy_generation=0),
    "no time": changed(created_at="soon"),
    "null alternative": changed(alternatives=[None]),
    "alternative without label": changed(alternatives=[{"confidence": 0.5}]),
    "alternative 2": changed(alternatives=[{"label": "x", "confidence": 2}]),
    "year 1": changed(created_at="0001-01-01T00:00:00Z"),
    "deep": b'{"z":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    # Unusual, and yet messages:
    "pretty": orjson.dumps(orjson.loads(encode(labeled(1))), option=orjson.OPT_INDENT_2),
    "blanks around": b"\n " + encode(labeled(1)) + b"\r\n",
    "unknown field": changed(new_field={"a": [1, {"b": None}]}),
    "left-out defaults": orjson.dumps(
        {
            k: v
            for k, v in orjson.loads(encode(labeled(1))).items()
            if k not in ("cached", "alternatives", "user_id")
        }
    ),
    "other zone": changed(created_at="2026-03-01T15:00:00.5+03:00"),
    "nanoseconds": changed(created_at="2026-03-01T15:00:00.123456789Z"),
    "no zone": changed(created_at="2026-03-01T15:00:00"),
    "a date": changed(created_at="2026-03-01"),
    "blank for T": changed(created_at="2026-03-01 15:00:00Z"),
    "no seconds": changed(created_at="2026-03-01T15:00Z"),
    "comma": changed(created_at="2026-03-01T15:00:00,5Z"),
    "seconds since 1970": changed(created_at=1_772_366_400),
    "escapes": encode(labeled(1)).replace(b"login", b"\\u0000\\\\ \\u00e9"),
    "20,000 characters": changed(text="ё" * 20_000),
}


def expected(value: bytes | None) -> Labeled | None:
    try:
        message = decode(Labeled, value)
    except UndecodableError:
        return None
    return message if message.created_at.year >= 1900 else None


@pytest.mark.parametrize("name", ODD)
def test_an_odd_message_is_found_among_good_ones(name: str) -> None:
    good = [encode(labeled(number)) for number in range(300)]
    given = records(*good[:137], ODD[name], *good[137:])
    batch, refused = to_batch(Labeled, given, TOPIC_ID)
    message = expected(ODD[name])
    if message is None:
        assert [one.record.offset for one in refused] == [137]
        assert refused[0].error
        assert len(batch) == 300
    else:
        assert refused == []
        row = batch.slice(137, 1).rows.to_pylist()[0]
        assert {field: row[field] for field in Labeled.model_fields} == message.model_dump()
    assert [record.offset for record in batch.records] == batch.rows["_offset"].to_pylist()
    assert len(batch) + len(refused) == 301


def test_nothing_but_garbage() -> None:
    batch, refused = to_batch(Labeled, records(*[b"?"] * 500), TOPIC_ID)
    assert (len(batch), len(refused)) == (0, 500)


def test_where_keeps_records_and_rows_together() -> None:
    batch, _ = to_batch(Labeled, records(*[encode(labeled(number)) for number in range(10)]), TOPIC_ID)
    kept = batch.where(lambda record: record.offset % 3 == 0)
    assert kept.rows["row_id"].to_pylist() == ["0", "3", "6", "9"]
    assert [record.offset for record in kept.records] == [0, 3, 6, 9]


def test_dead_letters_keep_their_bytes() -> None:
    kafka = FakeKafka()
    letter = DeadLetter(
        row_id="7",
        step="label",
        reason="invalid-answer",
        error="нет",
        attempts=2,
        topic="esk.rows",
        partition=1,
        offset=5,
        payload=b"\xff\x00",
        failed_at=datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=3))),
    )
    value, headers = encode_dead_letter(letter)
    batch = dead_letter_batch([kafka.put(TOPICS.dead_letter, 0, value, headers)], TOPIC_ID)
    row = batch.rows.to_pylist()[0]
    assert {name: row[name] for name in DeadLetter.model_fields} == letter.model_dump()


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("step", b"label"), ("reason", b"r"), ("failed-at", b"yesterday")],
        [("step", b"label"), ("reason", b"r"), ("failed-at", b"2026-01-01T00:00:00Z"), ("offset", b"9" * 40)],
        [
            ("step", b"label"),
            ("reason", b"r"),
            ("failed-at", b"2026-01-01T00:00:00Z"),
            ("partition", b"9999999999"),
        ],
        [("step", b"label"), ("reason", b"r"), ("failed-at", b"0001-01-01T00:00:00Z")],
    ],
)
def test_a_dead_letter_without_usable_headers_is_kept(headers: list[tuple[str, bytes]]) -> None:
    kafka = FakeKafka()
    batch = dead_letter_batch([kafka.put(TOPICS.dead_letter, 2, b"\xff\x00", headers)], TOPIC_ID)
    row = batch.rows.to_pylist()[0]
    assert row["reason"] == "undecodable" or row["reason"] == "out-of-range"
    assert row["payload"] == b"\xff\x00"
    assert (row["topic"], row["partition"], row["offset"]) == (TOPICS.dead_letter, 2, 0)
