"""Rows and dead letters that the sink leaves out because they were erased."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

from connectors.clickhouse.sink.batch import dead_letter_batch, to_batch
from connectors.clickhouse.sink.erased_rows import without_erased
from streams.core.codec import encode, encode_dead_letter
from streams.core.messages import DeadLetter, Labeled
from streams.core.times import micros_of
from streams.privacy.erasure import ErasedId, ErasureList, digests_of
from tests.unit.connectors.clickhouse.sink.fakes import START, TOPICS, FakeKafka, labeled

SALT = "salt:" + "00ff" * 8
UNTIL = micros_of(START) + 3_600_000_000


def _erased(kind: str, plain: str, until: int = UNTIL) -> ErasureList:
    return ErasureList([ErasedId(kind, digests_of(plain, [SALT], None)[0], SALT, until)])  # type: ignore[arg-type]


def test_a_letter_that_is_no_json_is_known_by_an_id_in_it() -> None:
    kafka = FakeKafka()
    anna, boris = (encode(labeled(n, user_id=who)) for n, who in ((1, "anna"), (2, "boris")))
    late = datetime(2030, 1, 1, tzinfo=UTC)  # it failed after the erasure, the row is older
    for payload in (anna[:-9], boris[:-9], b"\xff" + anna, b""):
        letter = DeadLetter(step="label", reason="undecodable", failed_at=late, payload=payload)
        value, headers = encode_dead_letter(letter)
        kafka.put(TOPICS.dead_letter, 0, value, headers)
    records = next(iter(kafka.logs.values()))
    batch = dead_letter_batch(records, uuid4())
    kept = without_erased(batch, _erased("user", "anna"))
    assert kept.rows["payload"].to_pylist() == [boris[:-9], b""]
    kept = without_erased(batch, _erased("row", "2"))
    assert kept.rows["payload"].to_pylist() == [anna[:-9], b"\xff" + anna, b""]


def test_a_row_of_the_far_future_is_left_out_by_its_own_time() -> None:
    kafka = FakeKafka()
    far = datetime(2099, 1, 1, tzinfo=UTC)
    rows = [labeled(1, created_at=far), labeled(2, created_at=far), labeled(3)]
    batch, _ = to_batch(Labeled, [kafka.put(TOPICS.labeled, 0, encode(one)) for one in rows], uuid4())
    kept = without_erased(batch, _erased("row", "1", micros_of(far)))
    assert kept.rows["row_id"].to_pylist() == ["2", "3"]
