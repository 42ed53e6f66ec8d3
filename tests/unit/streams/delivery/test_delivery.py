"""Delivery over fakes in memory: what becomes of each outcome, and what is never sent twice."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streams.core.codec import encode
from streams.core.context import aside, resting
from streams.core.messages import Row
from streams.core.outcomes import Retry
from streams.core.records import Commit, Outgoing, Partition
from streams.delivery.routes import Limits
from tests.unit.streams.delivery.fakes import ROWS, Broker, label, make, record, row, settle, take_over
from tests.waiting import PATIENCE


async def test_each_row_is_published_once_and_committed() -> None:
    broker = Broker()
    delivery = make(broker)
    await take_over(delivery, {ROWS: Commit(-1)}, 1)
    for offset in range(5):
        delivery.offer(record(offset, str(offset)), 1)
    await settle(delivery)
    assert sorted(broker.rows()) == ["0", "1", "2", "3", "4"]
    assert delivery.commits()[ROWS].offset == 5


async def test_an_unfinished_head_holds_the_commit_back() -> None:
    broker = Broker()
    gate = asyncio.Event()

    async def slow_first(message: Row) -> Any:
        if message.row_id == "0":
            await gate.wait()
        return await label(message)

    delivery = make(broker, slow_first)
    await take_over(delivery, {ROWS: Commit(-1)}, 1)
    for offset in range(4):
        delivery.offer(record(offset, str(offset)), 1)
    for _ in range(50):
        await asyncio.sleep(0)
    assert sorted(broker.rows()) == ["1", "2", "3"]
    assert delivery.commits()[ROWS].offset == 0
    gate.set()
    await settle(delivery)
    assert delivery.commits()[ROWS].offset == 4


async def test_the_span_bounds_how_far_others_run_ahead() -> None:
    broker = Broker()
    gate = asyncio.Event()

    async def slow_first(message: Row) -> Any:
        if message.row_id == "0":
            await gate.wait()
        return await label(message)

    delivery = make(broker, slow_first, Limits({"label": 8}, span=5))
    await take_over(delivery, {ROWS: Commit(-1)}, 1)
    for offset in range(20):
        delivery.offer(record(offset, str(offset)), 1)
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(broker.rows()) == 4
    gate.set()
    await settle(delivery)
    assert len(broker.rows()) == 20


async def test_messages_aside_hold_up_no_others_and_go_on_before_they_would() -> None:
    broker = Broker()
    never, back = asyncio.Event(), list[str]()

    async def verify_some(message: Row) -> Any:
        if int(message.row_id) < 6:
            assert await aside(never.wait(), 3600) is None
            back.append(message.row_id)
        return await label(message)

    delivery = make(broker, verify_some, Limits({"label": 2}, span=20))
    await take_over(delivery, {ROWS: Commit(-1)}, 1)
    for offset in range(12):
        delivery.offer(record(offset, str(offset)), 1)
    for _ in range(200):
        await asyncio.sleep(0)
    # Three times as many aside as may be in the step. Those that half of the span is used for have gone on.
    assert broker.rows()[:4] == ["6", "7", "8", "9"]
    assert back == ["0", "1"]
    for offset in range(12, 40):
        delivery.offer(record(offset, str(offset)), 1)
    await settle(delivery)
    assert sorted(map(int, broker.rows())) == list(range(40))
    assert delivery.commits()[ROWS].offset == 40


@pytest.mark.parametrize(("owner", "published"), [(True, ["0"]), (False, [])])
async def test_what_waits_aside_ends_with_its_message(owner: bool, published: list[str]) -> None:
    broker = Broker()
    begun, ended = asyncio.Event(), asyncio.Event()

    async def waits() -> None:
        begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    async def verify(message: Row) -> Any:
        await aside(waits(), 3600)
        return await label(message)

    delivery = make(broker, verify)
    await take_over(delivery, {ROWS: Commit(-1)}, 1)
    delivery.offer(record(0, "0"), 1)
    await asyncio.wait_for(begun.wait(), PATIENCE)
    # Its step has asked a model already: an owner publishes what it has.
    assert await delivery.revoked(owner=owner, seconds=PATIENCE) is owner
    await asyncio.wait_for(ended.wait(), PATIENCE)
    assert broker.rows() == published


@pytest.mark.parametrize(
    ("value", "reason"),
    [(None, "no-value"), (b"\xff\x00", "undecodable"), (b'{"row_id": "1"}', "wrong-schema")],
)
async def test_poison_becomes_a_dead_letter_with_its_bytes(value: bytes | None, reason: str) -> None:
    broker = Broker()
    broker.logs[ROWS] = [Outgoing("rows", 0, b"", value), Outgoing("rows", 0, b"1", encode(row("1")))]
    delivery = make(broker)
    await take_over(delivery, {ROWS: Commit(-1)}, 1)
    delivery.offer(record(0, value=value), 1)
    delivery.offer(record(1, "1"), 1)
    await settle(delivery)
    (letter,) = broker.logs[("dead", 0)]
    headers = dict(letter.headers)
    assert letter.value == (value or b"")
    assert headers["reason"].decode() == reason
    assert (headers["topic"], headers["partition"], headers["offset"]) == (b"rows", b"0", b"0")
    assert broker.rows() == ["1"]
    assert delivery.commits()[ROWS].offset == 2
    # A next owner that reads it again does not give it up twice.
    again = make(broker)
    await take_over(again, {ROWS: Commit(0)}, 1)
    again.offer(record(0, value=value), 1)
    await settle(again)
    assert len(broker.logs[("dead", 0)]) == 1


async def test_too_large_for_the_dead_letter_topic_is_kept_by_reference() -> None:
    broker = Broker()
    broker.refuse = lambda message: len(message.value or b"") > 1000
    delivery = make(broker)
    await take_over(delivery, {ROWS: Commit(-1)}, 1)
    delivery.offer(record(7, value=b"x" * 5000), 1)
    await settle(delivery)
    (letter,) = broker.logs[("dead", 0)]
    assert letter.value == b""
    assert dict(letter.headers)["offset"] == b"7"


async def test_an_outage_never_uses_up_attempts_but_a_lone_failure_does() -> None:
    broker = Broker()
    tries = {"bad": 0, "good": 0}

    async def outage_then_poison(message: Row) -> Any:
        kind = "bad" if message.row_id == "0" else "good"
        tries[kind] += 1
        if tries["bad"] + tries["good"] < 40 or kind == "bad":
            return Retry(0.1, "HTTP 500", suspect=True)
        return await label(message)

    delivery = make(broker, outage_then_poison, Limits({"label": 2}, attempts=3))
    await take_over(delivery, {ROWS: Commit(-1)}, 1)
    for offset in range(20):
        delivery.offer(record(offset, str(offset)), 1)
    for _ in range(3000):
        await asyncio.sleep(0)
    await settle(delivery)
    assert len(broker.rows()) == 19
    (letter,) = broker.logs[("dead", 0)]
    assert dict(letter.headers)["reason"] == b"gave-up"
    assert tries["bad"] > 10  # the outage before did not count


async def test_a_step_that_raises_is_retried_not_lost() -> None:
    broker = Broker()
    raised: list[str] = []

    async def breaks_once(message: Row) -> Any:
        if not raised:
            raised.append(message.row_id)
            raise RuntimeError("bug")
        return await label(message)

    delivery = make(broker, breaks_once)
    await take_over(delivery, {ROWS: Commit(-1)}, 1)
    delivery.offer(record(0, "0"), 1)
    await settle(delivery)
    assert broker.rows() == ["0"]


async def test_nothing_is_published_after_the_generation_has_changed() -> None:
    broker = Broker()
    broker.may_write.clear()
    delivery = make(broker)
    await take_over(delivery, {ROWS: Commit(-1)}, 1)
    delivery.offer(record(0, "0"), 1)
    for _ in range(20):
        await asyncio.sleep(0)
    broker.generation = 2
    broker.may_write.set()
    await settle(delivery)
    assert broker.rows() == []
    assert delivery.commits()[ROWS].offset == 0


async def test_revocation_awaits_what_was_handed_over_and_drops_the_rest() -> None:
    broker = Broker()
    handed = asyncio.Event()
    gate = asyncio.Event()
    plain_send = broker.send

    async def slow_send(message: Outgoing) -> int:
        handed.set()
        await gate.wait()
        return await plain_send(message)

    broker.send = slow_send  # type: ignore[method-assign]

    async def step(message: Row) -> Any:
        if message.row_id == "1":
            await asyncio.Event().wait()
        return await label(message)

    delivery = make(broker, step)
    await take_over(delivery, {ROWS: Commit(-1)}, 1)
    delivery.offer(record(0, "0"), 1)
    delivery.offer(record(1, "1"), 1)
    await handed.wait()
    revoking = asyncio.create_task(delivery.revoked(owner=True, seconds=5))
    await asyncio.sleep(0)
    gate.set()
    assert await revoking
    assert broker.rows() == ["0"]
    assert delivery.commits()[ROWS].offset == 1


async def test_as_many_may_wait_as_may_be_in_flight() -> None:
    """Where all answers come at once, each place is to find its next message here."""
    delivery = make(Broker(), label, Limits({"label": 10}, queue=3))
    await take_over(delivery, {ROWS: Commit(-1)}, 1)
    for offset in range(19):
        delivery.offer(record(offset, str(offset)), 1)
    assert delivery.crowded() == set()  # ten are at work, nine wait
    delivery.offer(record(19, "19"), 1)
    assert delivery.crowded() == {ROWS}
    await settle(delivery)


async def test_revocation_lets_calls_finish_so_that_nobody_repeats_them() -> None:
    broker, answer, asked = Broker(), asyncio.Event(), asyncio.Event()

    async def step(message: Row) -> Any:
        asked.set()
        await answer.wait()
        return await label(message)

    delivery = make(broker, step)
    await take_over(delivery, {ROWS: Commit(-1)}, 1)
    delivery.offer(record(0, "0"), 1)
    await asked.wait()
    revoking = asyncio.create_task(delivery.revoked(owner=True, seconds=60))
    await asyncio.sleep(0)
    answer.set()
    assert await revoking
    assert broker.rows() == ["0"]
    assert delivery.commits()[ROWS].offset == 1


async def test_what_is_read_during_a_revocation_is_not_taken_over_what_waited() -> None:
    """What waited is let go. The consumer goes on reading for a moment: behind it."""
    broker, answer, asked = Broker(), asyncio.Event(), asyncio.Event()

    async def step(message: Row) -> Any:
        asked.set()
        await answer.wait()
        return await label(message)

    delivery = make(broker, step, Limits({"label": 2}))
    await take_over(delivery, {ROWS: Commit(-1)}, 1)
    for offset in range(10):
        delivery.offer(record(offset, str(offset)), 1)
    await asked.wait()
    revoking = asyncio.create_task(delivery.revoked(owner=True, seconds=60))
    await asyncio.sleep(0)
    delivery.offer(record(10, "10"), 1)
    answer.set()
    await asyncio.sleep(0)
    delivery.offer(record(11, "11"), 1)
    assert await revoking
    assert delivery.commits()[ROWS].offset == 2
    assert broker.rows() == ["0", "1"]


async def test_the_same_row_live_and_replayed_is_published_once() -> None:
    broker = Broker()
    delivery = make(broker)
    await take_over(delivery, {ROWS: Commit(-1), Partition("replay", 0): Commit(-1)}, 1)
    delivery.offer(record(0, "7"), 1)
    delivery.offer(record(0, "7", topic="replay"), 1)
    await settle(delivery)
    assert broker.rows() == ["7"]
    assert {commit.offset for commit in delivery.commits().values()} == {1}


async def test_live_rows_pass_replays_that_wait_and_a_full_queue_holds_its_partition_back() -> None:
    broker = Broker()
    order: list[str] = []
    released = asyncio.Event()

    async def noted(message: Row) -> Any:
        order.append(message.row_id)
        if message.row_id.startswith("replay"):
            await released.wait()
        return await label(message)

    delivery = make(broker, noted, Limits({"label": 1}, queue=3))
    await take_over(delivery, {ROWS: Commit(-1), Partition("replay", 0): Commit(-1)}, 1)
    for offset in range(5):
        delivery.offer(record(offset, f"replay-{offset}", topic="replay"), 1)
    assert delivery.crowded() == {Partition("replay", 0)}
    for offset in range(3):
        delivery.offer(record(offset, f"live-{offset}"), 1)
    async with asyncio.timeout(PATIENCE):
        while broker.rows() != ["live-0", "live-1", "live-2"]:
            await asyncio.sleep(0)
    assert order.count("replay-0") == 1
    assert len(order) == 4
    released.set()
    await settle(delivery)
    assert len(order) == 8


async def test_a_replay_that_was_dropped_is_passed_over_also_while_it_is_at_work() -> None:
    broker = Broker()
    dropped: set[int] = set()

    async def dropped_meanwhile(message: Row) -> Any:
        if message.row_id == "1":
            dropped.add(1)
        return Retry(0.01, "not now") if message.row_id == "2" else await label(message)

    delivery = make(broker, dropped_meanwhile, unwanted=lambda record: record.offset in dropped)
    await take_over(delivery, {Partition("replay", 0): Commit(-1)}, 1)
    dropped.add(0)
    for offset in range(4):
        delivery.offer(record(offset, str(offset), topic="replay"), 1)
    async with asyncio.timeout(PATIENCE):
        while delivery.counts["retries:label"] < 3:
            await asyncio.sleep(0)
    dropped.add(2)
    await settle(delivery)
    assert broker.rows() == ["3"]
    assert delivery.counts["unwanted:label"] == 3
    assert delivery.commits()[Partition("replay", 0)].offset == 4


async def test_rows_that_were_erased_reach_no_step_and_no_topic() -> None:
    broker, asked, gone = Broker(), list[str](), {"0"}

    async def erased_meanwhile(message: Row) -> Any:
        asked.append(message.row_id)
        if message.row_id == "1":
            gone.add("1")
        return await label(message)

    delivery = make(broker, erased_meanwhile, erased=lambda row: row.row_id in gone)
    await take_over(delivery, {ROWS: Commit(-1)}, 1)
    for offset in range(3):
        delivery.offer(record(offset, str(offset)), 1)
    await settle(delivery)
    assert (asked, broker.rows()) == (["1", "2"], ["2"])
    assert delivery.commits()[ROWS].offset == 3


@pytest.mark.parametrize("full", ["labeled", "dead"])
async def test_nothing_is_begun_whose_output_is_full_until_there_is_room(full: str) -> None:
    broker, there = Broker(), {Partition(full, 0)}
    delivery = make(broker, full=lambda partition: partition in there)
    other = Partition("rows", 1)
    await take_over(delivery, {ROWS: Commit(-1), other: Commit(-1)}, 1)
    for offset in range(5):
        delivery.offer(record(offset, str(offset)), 1)
        delivery.offer(record(offset, f"other {offset}")._replace(partition=1), 1)
    await settle(delivery)
    assert broker.rows() == []
    assert delivery.commits()[ROWS].offset == 0
    assert delivery.commits()[other].offset == 5  # its output is another partition
    there.clear()
    delivery.resume()
    await settle(delivery)
    assert broker.rows() == ["0", "1", "2", "3", "4"]


async def test_no_more_than_twice_as_many_messages_are_started_if_all_wait_for_another_try() -> None:
    broker = Broker()
    go_on = asyncio.Event()
    asked: list[str] = []

    async def failing(message: Row) -> Any:
        asked.append(message.row_id)
        with resting():
            await go_on.wait()
        return await label(message)

    delivery = make(broker, failing, Limits({"label": 3}))
    await take_over(delivery, {ROWS: Commit(-1)}, 1)
    for offset in range(20):
        delivery.offer(record(offset, str(offset)), 1)
    for _ in range(100):
        await asyncio.sleep(0)
    assert 3 <= len(asked) < 6
    go_on.set()
    await settle(delivery)
    assert sorted(map(int, broker.rows())) == list(range(20))


async def test_messages_that_wait_keep_no_others_out() -> None:
    broker = Broker()
    go_on = asyncio.Event()

    async def first_two_fail(message: Row) -> Any:
        if message.row_id in "01":
            with resting():
                await go_on.wait()
        return await label(message)

    delivery = make(broker, first_two_fail, Limits({"label": 3}))
    await take_over(delivery, {ROWS: Commit(-1)}, 1)
    for offset in range(20):
        delivery.offer(record(offset, str(offset)), 1)
    for _ in range(200):
        await asyncio.sleep(0)
    assert sorted(map(int, broker.rows())) == list(range(2, 20))
    go_on.set()
    await settle(delivery)
    assert len(broker.rows()) == 20
    assert delivery.in_flight == 0
