"""Delivery of what comes again: retried dead letters, other rows under old ids, gaps and what was skipped."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from streams.core.codec import decode, encode, headers_of
from streams.core.errors import LeaseLostError
from streams.core.messages import Labeled, Row
from streams.core.outcomes import Reject
from streams.core.records import Commit, Outgoing, Record
from tests.unit.streams.delivery.fakes import (
    NOW,
    REPLAY,
    ROWS,
    Broker,
    label,
    make,
    record,
    row,
    settle,
    take_over,
)


async def test_outputs_say_where_they_came_from() -> None:
    broker = Broker()
    delivery = make(broker)
    await take_over(delivery, {ROWS: Commit(-1)}, 1)
    delivery.offer(record(3, "3"), 1)
    await settle(delivery)
    (message,) = broker.logs[("labeled", 0)]
    assert dict(message.headers) == dict(headers_of(decode(Labeled, message.value), source=("rows", 0, 3)))
    assert dict(message.headers)["source"] == b"rows/0/3"


async def test_a_row_that_got_the_id_of_another_later_is_not_taken_for_it() -> None:
    broker = Broker()
    delivery = make(broker)
    await take_over(delivery, {ROWS: Commit(-1)}, 1)
    later = row("1").model_copy(update={"created_at": NOW + timedelta(days=1)})
    delivery.offer(record(0, "1"), 1)
    delivery.offer(record(1, value=encode(later)), 1)
    await settle(delivery)
    assert broker.rows() == ["1", "1"]

    again = make(broker)
    await take_over(again, {ROWS: Commit(-1)}, 1)
    again.offer(record(0, "1"), 1)
    again.offer(record(1, value=encode(later)), 1)
    await settle(again)
    assert broker.rows() == ["1", "1"]


async def test_a_dead_letter_that_is_tried_again_is_published_once() -> None:
    broker = Broker()
    answers: list[Any] = [Reject("invalid-answer"), Reject("invalid-answer")]

    async def mends(message: Row) -> Any:
        return answers.pop() if answers else await label(message)

    delivery = make(broker, mends)
    await take_over(delivery, {ROWS: Commit(-1), REPLAY: Commit(-1)}, 1)
    delivery.offer(record(0, "7"), 1)
    await settle(delivery)
    assert broker.rows() == []

    def again(offset: int, letter: int) -> Record:
        plain = record(offset, "7", topic="replay")
        headers = (("retry-of", f"dead/0/{letter}".encode()),)
        return Record("replay", 0, offset, 0, plain.key, plain.value, headers)

    delivery.offer(again(0, 0), 1)  # fails again: a second dead letter
    await settle(delivery)
    assert len(broker.logs[("dead", 0)]) == 2
    delivery.offer(again(1, 0), 1)  # the same again: nothing new
    await settle(delivery)
    assert len(broker.logs[("dead", 0)]) == 2
    delivery.offer(again(2, 1), 1)
    await settle(delivery)
    assert broker.rows() == ["7"]
    later = make(broker)
    await take_over(later, {ROWS: Commit(0), REPLAY: Commit(0)}, 1)
    for offset, letter in enumerate([0, 0, 1, 1]):
        later.offer(again(offset, letter), 1)
    later.offer(record(0, "7"), 1)
    await settle(later)
    assert broker.rows() == ["7"]
    assert len(broker.logs[("dead", 0)]) == 2


async def test_an_owner_that_cannot_tell_what_was_written_asks_for_a_new_start() -> None:
    broker = Broker()
    delivery = make(broker)
    await take_over(delivery, {ROWS: Commit(-1)}, 1)

    async def unknown(message: Outgoing) -> int:
        raise LeaseLostError("nobody knows whether it was written")

    broker.send = unknown  # type: ignore[method-assign]
    delivery.offer(record(0, "0"), 1)
    await settle(delivery)
    assert "nobody knows" in delivery.unsure
    assert delivery.commits()[ROWS].offset == 0
    delivery.forget()
    assert delivery.unsure == ""


async def test_what_the_consumer_skipped_is_read_from_the_topic() -> None:
    broker = Broker()
    broker.logs[("rows", 0)] = [Outgoing("rows", 0, b"%d" % n, encode(row(str(n)))) for n in range(6)]
    delivery = make(broker)
    await take_over(delivery, {ROWS: Commit(-1)}, 1)
    for offset in (2, 3, 4, 3, 5):  # 0 and 1 are missing, 3 comes twice
        delivery.offer(record(offset, str(offset)), 1)
    await settle(delivery)
    assert sorted(broker.rows()) == ["0", "1", "2", "3", "4", "5"]
    assert delivery.commits()[ROWS].offset == 6
    assert delivery.owed() == {ROWS: 6}


async def test_a_gap_of_what_is_not_there_is_passed_over() -> None:
    broker = Broker()
    delivery = make(broker)
    await take_over(delivery, {ROWS: Commit(5)}, 1)
    delivery.offer(record(9, "9"), 1)  # retention took 5 to 8
    delivery.offer(record(12, "12"), 1)  # a transaction's markers
    await settle(delivery)
    assert broker.rows() == ["9", "12"]
    assert delivery.commits()[ROWS].offset == 13


async def test_what_another_step_gave_up_unread_is_given_up_by_this_one_too() -> None:
    broker = Broker()
    delivery = make(broker)
    await take_over(delivery, {ROWS: Commit(-1)}, 1)
    delivery.offer(record(0, value=b"poison"), 1)
    await settle(delivery)
    (letter,) = broker.logs[("dead", 0)]
    headers = [(name, b"store" if name == "step" else value) for name, value in letter.headers]
    broker.logs[("dead", 0)] = [Outgoing("dead", 0, letter.key, letter.value, headers)]
    other = make(broker)
    await take_over(other, {ROWS: Commit(-1)}, 1)
    other.offer(record(0, value=b"poison"), 1)
    await settle(other)
    assert [dict(one.headers)["step"] for one in broker.logs[("dead", 0)]] == [b"store", b"label"]
