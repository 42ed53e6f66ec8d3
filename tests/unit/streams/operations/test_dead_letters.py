"""A retry of what was given up before masking was switched on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, cast

import orjson
import pytest

from connectors.clickhouse.poller.backfill import OldRow
from connectors.clickhouse.queries.open_dead_letters import OpenLetter
from streams.core.codec import encode
from streams.core.messages import Augmented, DeadLetter, Labeled, RejectedVariant, Row
from streams.core.records import Outgoing, Record
from streams.core.settings import Settings
from streams.core.times import micros_of
from streams.core.topics import partition_of
from streams.operations import dead_letters
from streams.operations.dead_letters import _Retry
from streams.privacy.door import Door
from streams.privacy.erasure import ErasedId, ErasureList, digests_of
from streams.privacy.pseudonyms import is_pseudonym
from tests.unit.streams.privacy.fakes import UNMASKABLE, make_door

AT = datetime(2026, 1, 1, tzinfo=UTC)
PLAIN = "мой +7 916 123-45-67"
ROW = Row(row_id="1", text=PLAIN, created_at=AT, user_id="4711", session_id="s-1", polled_at=AT)
LABELED = Labeled(
    **ROW.__dict__, label="payment", label_version="v1", model="m", labeled_at=AT, confidence=0.5
)
AUGMENTED = Augmented(
    **LABELED.__dict__,
    variants=[PLAIN],
    rejected=[RejectedVariant(text=PLAIN, reason="copy-of-source")],
    augment_model="a",
    augmented_at=AT,
)


def letter(step: str, topic: str, payload: bytes) -> OpenLetter:
    made = DeadLetter(row_id="1", step=step, reason="r", failed_at=AT, topic=topic, payload=payload)
    return OpenLetter(made, 0, 0, "topic")


class Producer:
    def __init__(self) -> None:
        self.sent: list[Outgoing] = []

    async def send_many(self, messages: list[Outgoing]) -> None:
        self.sent += messages


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> list[DeadLetter]:
    found: list[DeadLetter] = []

    async def store_again(_: Any, __: Any, letter: DeadLetter, ___: Any) -> None:
        found.append(letter)

    async def topic_id(_: Any, __: str) -> str:
        return "id"

    monkeypatch.setattr(dead_letters, "store_again", store_again)
    monkeypatch.setattr(dead_letters.Admin, "topic_id", topic_id)
    return found


async def test_older_letters_are_masked_before_they_go_anywhere(stored: list[DeadLetter]) -> None:
    producer = Producer()
    settings = Settings(clickhouse_host="localhost", kafka_bootstrap_servers="localhost:1")
    retry = _Retry(settings, cast(Any, None), cast(Any, producer), make_door())
    broken = encode(ROW.model_copy(update={"text": UNMASKABLE}))
    await retry.some(
        [
            letter("label", "esk.rows", encode(ROW)),
            letter("augment", "esk.labeled", encode(LABELED)),
            letter("store", "esk.labeled", encode(LABELED)),
            letter("store", "esk.augmented", encode(AUGMENTED)),
            letter("label", "esk.rows", b"4711 " + PLAIN.encode()),
            letter("label", "esk.rows", broken),
            letter("store", "esk.labeled", broken),
        ]
    )
    gone = [one.value or b"" for one in producer.sent] + [one.payload for one in stored]
    told = [orjson.loads(one) for one in gone]
    assert [one["text"] for one in told] == ["мой [ТЕЛЕФОН]"] * 4
    assert all(is_pseudonym(one["user_id"]) and is_pseudonym(one["session_id"]) for one in told)
    assert (told[3]["variants"], told[3]["rejected"][0]["text"]) == (["мой [ТЕЛЕФОН]"], "мой [ТЕЛЕФОН]")
    partition = partition_of("мой [ТЕЛЕФОН]", settings.topic_partitions)
    assert [one.partition for one in producer.sent] == [partition] * 2
    assert sum(retry.left.values()) == 3
    assert dict(retry.counts) == {"retried": 2, "stored": 2}


async def test_what_is_masked_already_keeps_its_bytes(stored: list[DeadLetter]) -> None:
    producer = Producer()
    settings = Settings(clickhouse_host="localhost", kafka_bootstrap_servers="localhost:1")
    door = make_door()
    (safe,) = await door.rows([ROW])
    assert safe is not None
    value = encode(safe).replace(b'{"row_id"', b'{ "row_id"')
    retry = _Retry(settings, cast(Any, None), cast(Any, producer), door)
    await retry.some([letter("label", "esk.rows", value)])
    assert [one.value for one in producer.sent] == [value]


async def test_letters_of_one_time_are_read_at_once_and_go_where_their_job_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[int] = []

    class Rows:
        def __init__(self, *_: Any, since: int, **__: Any) -> None:
            opened.append(since)

        async def pages(self, *_: Any) -> AsyncIterator[Any]:
            rows = [ROW.model_copy(update={"row_id": row_id}) for row_id in ("1", "2", "3")]
            yield [OldRow(row, b"mark", (), ()) for row in rows], [], 0

    async def record(_: Any, one: OpenLetter) -> Record:
        headers = [("created-at", AT.isoformat().encode())]
        if one.letter.row_id == "2":
            headers += [("replay-job", b"j"), ("label-version", b"v2"), ("to", b"shadow")]
        return Record("t", 0, 0, 0, b"", b"", tuple(headers))

    monkeypatch.setattr(dead_letters, "OldRows", Rows)
    monkeypatch.setattr(_Retry, "_record", record)
    producer = Producer()
    settings = Settings(clickhouse_host="localhost", kafka_bootstrap_servers="localhost:1")
    retry = _Retry(settings, cast(Any, None), cast(Any, producer), make_door())
    found = [DeadLetter(row_id=row_id, step="mask", reason="r", failed_at=AT) for row_id in ("1", "2", "9")]
    await retry.some([OpenLetter(one, 0, 0, "topic") for one in found])
    assert len(opened) == 1
    assert [message.key for message in producer.sent] == [b"1", b"2"]
    live, shadow = (dict(message.headers) for message in producer.sent)
    assert "to" not in live
    assert (shadow["replay-job"], shadow["label-version"], shadow["to"]) == (b"j", b"v2", b"shadow")
    assert retry.left.total() == 1


@pytest.mark.parametrize("door", [None, make_door()])
async def test_a_row_that_was_erased_before_masking_is_not_retried(
    stored: list[DeadLetter], door: Door | None
) -> None:
    salt = "salt:" + "ab" * 16
    listed = ErasureList([ErasedId("user", digests_of("4711", [salt], None)[0], salt, micros_of(AT))])

    async def erased() -> ErasureList:
        return listed

    producer = Producer()
    settings = Settings(clickhouse_host="localhost", kafka_bootstrap_servers="localhost:1")
    retry = _Retry(settings, cast(Any, None), cast(Any, producer), door, erased)
    later = encode(ROW.model_copy(update={"created_at": datetime(2026, 1, 2, tzinfo=UTC)}))
    await retry.some(
        [
            letter("label", "esk.rows", encode(ROW)),
            letter("store", "esk.labeled", encode(LABELED)),
            letter("label", "esk.rows", later),
        ]
    )
    assert (len(producer.sent), stored) == (1, [])
    assert dict(retry.left) == {"its row was erased": 2}
