"""What retention took before it was read: named before anything behind it is committed, never passed over."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from streams.core.codec import RECOVERED, encode, headers_of
from streams.core.errors import UnavailableError
from streams.core.losses import Loss, Losses, reached_in, time_of
from streams.core.messages import Row
from streams.core.outcomes import Reject
from streams.core.records import Commit, Outgoing, Partition, Record, made_anew
from streams.core.times import micros_of
from streams.observability.losses import LossReporter
from tests.unit.streams.delivery.fakes import NOW, ROWS, Broker, label, make, record, row, settle, take_over

ID = "00000000-0000-0000-0000-000000000000"
SEEN = orjson.dumps({"reached": 77}).decode()


class Reports:
    """What was reported. ``fails``: so many reports are not noted; ``gate``: they wait for it."""

    def __init__(self, fails: int = 0) -> None:
        self.told: list[tuple[object, ...]] = []
        self.fails = fails
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, *told: object) -> None:
        await self.gate.wait()
        if self.fails:
            self.fails -= 1
            raise UnavailableError("Kafka does not answer")
        self.told.append(told)


def filled(broker: Broker, end: int, first: int) -> None:
    """A rows topic whose messages below ``first`` are deleted."""
    messages = [row(str(n)) for n in range(end)]
    broker.logs["rows", 0] = [
        Outgoing("rows", 0, one.row_id.encode(), encode(one), headers_of(one)) for one in messages
    ]
    broker.first["rows", 0] = first


async def test_a_backlog_that_retention_took_is_named_before_what_is_left_is_read() -> None:
    broker, reports = Broker(), Reports()
    filled(broker, 9005, 9000)
    delivery = make(broker, report=reports)
    await take_over(delivery, {ROWS: Commit(1000, SEEN)}, 1)
    assert reports.told == [(ROWS, ID, 1000, 9000, 77, 1)]
    assert delivery.owed() == {ROWS: 9000}
    assert delivery.commits()[ROWS].offset == 9000
    for offset in range(9000, 9005):
        delivery.offer(record(offset, str(offset)), 1)
    await settle(delivery)
    assert len(broker.rows()) == 5
    assert len(reports.told) == 1


async def test_nothing_is_taken_over_while_a_loss_is_not_noted() -> None:
    broker, reports = Broker(), Reports(fails=2)
    filled(broker, 9005, 9000)
    reports.gate.clear()
    delivery = make(broker, report=reports)
    await delivery.assigned({ROWS: Commit(1000)}, 1)
    delivery.offer(record(9000, "9000"), 1)
    await settle(delivery)
    assert delivery.taking_over() == {ROWS}
    assert delivery.commits() == {}
    assert broker.rows() == []
    reports.gate.set()
    await settle(delivery)
    assert (ROWS, ID, 1000, 9000, None, 1) in reports.told
    assert delivery.commits()[ROWS].offset == 9001
    assert broker.rows() == ["9000"]


async def test_what_retention_takes_under_a_running_worker_holds_what_is_behind_it() -> None:
    """The consumer jumps to what is left; nothing of it is taken before the rest is noted."""
    broker, reports = Broker(), Reports(fails=2)
    delivery = make(broker, report=reports)
    await take_over(delivery, {ROWS: Commit(-1)}, 1)
    for offset in range(3):
        delivery.offer(record(offset, str(offset)), 1)
    await settle(delivery)
    filled(broker, 20, 8)
    reports.gate.clear()
    delivery.offer(record(10, "10"), 1)
    await settle(delivery)
    assert delivery.commits()[ROWS].offset == 3
    assert len(broker.rows()) == 3
    reports.gate.set()
    await settle(delivery)
    assert reports.told == [(ROWS, ID, 3, 8, None, 1)]
    assert delivery.commits()[ROWS].offset == 11
    assert sorted(map(int, broker.rows())) == [0, 1, 2, 8, 9, 10]


async def test_all_of_it_may_be_gone() -> None:
    broker, reports = Broker(), Reports()
    delivery = make(broker, report=reports)
    await take_over(delivery, {ROWS: Commit(2, SEEN)}, 1)
    filled(broker, 30, 30)
    await delivery.look()
    await settle(delivery)
    assert reports.told == [(ROWS, ID, 2, 30, 77, 1)]
    assert delivery.commits()[ROWS].offset == 30  # whoever looks for them knows that none is on its way
    delivery.offer(record(30, "30"), 1)
    await settle(delivery)
    await delivery.look()
    await settle(delivery)
    assert len(reports.told) == 1
    assert delivery.commits()[ROWS].offset == 31


async def test_offsets_that_never_held_a_message_are_no_loss() -> None:
    """Another producer's transactions leave such."""
    broker, reports = Broker(), Reports()
    filled(broker, 3, 0)
    delivery = make(broker, report=reports)
    await take_over(delivery, {ROWS: Commit(-1)}, 1)
    delivery.offer(record(0, "0"), 1)
    delivery.offer(record(5, "5"), 1)
    await settle(delivery)
    assert reports.told == []
    assert sorted(broker.rows()) == ["0", "1", "2", "5"]


async def test_a_topic_that_nobody_has_ever_read_loses_what_is_gone() -> None:
    broker, reports = Broker(), Reports()
    filled(broker, 20, 12)
    await take_over(make(broker, report=reports), {ROWS: Commit(-1)}, 1)
    assert reports.told == [(ROWS, ID, 0, 12, None, 1)]


async def test_a_group_whose_commits_kafka_forgot_has_lost_nothing() -> None:
    """It was idle for a week; what it wrote says that it had read."""
    broker, reports = Broker(), Reports()
    filled(broker, 20, 12)
    await broker.send(Outgoing("labeled", 0, b"1", b"{}", [("message-type", b"labeled")]))
    delivery = make(broker, report=reports)
    await take_over(delivery, {ROWS: Commit(-1)}, 1)
    assert reports.told == []
    assert delivery.owed() == {ROWS: 12}


async def test_a_topic_made_anew_that_was_cut_already() -> None:
    broker, reports = Broker(), Reports()
    filled(broker, 20, 12)
    metadata = orjson.dumps({"topic-ids": {"rows": "another"}, "reached": 77}).decode()
    assert made_anew(metadata, "rows", ID)
    await take_over(make(broker, report=reports), {ROWS: Commit(5000, metadata)}, 1)
    assert reports.told == [(ROWS, ID, 0, 12, None, 1)]


async def test_a_commit_names_the_time_of_the_last_row_before_it() -> None:
    broker = Broker()
    delivery = make(broker)
    await take_over(delivery, {ROWS: Commit(4, SEEN)}, 1)
    assert reached_in(delivery.commits()[ROWS].metadata) == 77
    headers = headers_of(row("4"))
    delivery.offer(record(4, "4")._replace(headers=tuple(headers)), 1)
    delivery.offer(record(5, "5"), 1)  # somebody else's, without headers
    await settle(delivery)
    assert delivery.commits()[ROWS].offset == 6
    assert reached_in(delivery.commits()[ROWS].metadata) == micros_of(NOW)


def test_a_row_of_the_future_counts_as_of_its_publishing() -> None:
    published = micros_of(NOW)
    dated = row("1").model_copy(update={"created_at": NOW + timedelta(days=9)})
    one = Record("rows", 0, 0, published // 1000, b"1", b"", tuple(headers_of(dated)))
    assert time_of(one) == published
    assert time_of(one._replace(headers=tuple(headers_of(row("1"))))) == published
    assert time_of(one._replace(headers=())) is None


async def test_a_report_is_noted_each_time_and_counted_once() -> None:
    broker = Broker()
    reporter = LossReporter("agents", "cursor", broker, broker)  # type: ignore[arg-type]
    where = Partition("rows", 3)
    for end in (10, 10, 15):
        await reporter.report(where, ID, 5, end, 77, 1)
    assert reporter.counts == {"rows": 10}
    losses = Losses()
    for offset, sent in enumerate(broker.logs["cursor", 0]):
        losses.learn(Record("cursor", 0, offset, 0, sent.key, sent.value))
    (loss,) = losses.open
    assert (loss.partition, loss.start, loss.end, loss.since) == (3, 5, 15, 77)


def test_a_loss_is_closed_up_to_where_it_was_looked_for() -> None:
    losses = Losses()

    def learn(message: Outgoing) -> None:
        losses.learn(Record("cursor", 0, 0, 0, message.key, message.value))

    loss = Loss(group="agents", topic="rows", topic_id=ID, partition=0, start=5, end=10)
    learn(loss.message("cursor"))
    learn(loss.closed_message("cursor"))
    assert not losses.open
    assert losses.as_dict(losses.all[0]) | {"messages": 5, "state": "closed"} == losses.as_dict(losses.all[0])
    grown = loss.model_copy(update={"end": 12})
    learn(grown.message("cursor"))
    assert losses.open == [grown]
    learn(loss.closed_message("cursor"))
    assert losses.open == [grown]
    other = Loss(group="agents", topic="rows", topic_id=ID, partition=1, start=0, end=3)
    learn(other.message("cursor"))
    learn(other.closed_message("cursor"))
    assert losses.by_reader() == [{"topic": "rows", "group": "agents", "messages": 10, "open": 7}]
    for garbage in (b"", b"{}", b"[]", b"{", None):
        learn(Outgoing("cursor", 0, b"lost/x", garbage))
        learn(Outgoing("cursor", 0, b"lost/x/closed", garbage))
    assert losses.open == [grown]


async def test_what_is_at_work_before_a_loss_holds_the_commit() -> None:
    broker, reports, gate = Broker(), Reports(), asyncio.Event()

    async def slow(message: Row) -> Any:
        await gate.wait()
        return await label(message)

    delivery = make(broker, slow, report=reports)
    await take_over(delivery, {ROWS: Commit(-1)}, 1)
    for offset in range(2):
        delivery.offer(record(offset, str(offset)), 1)
    filled(broker, 30, 30)
    await delivery.look()
    for _ in range(100):
        await asyncio.sleep(0)
    assert reports.told == [(ROWS, ID, 2, 30, None, 1)]
    assert delivery.commits()[ROWS].offset == 0
    gate.set()
    await settle(delivery)
    assert delivery.commits()[ROWS].offset == 30


# --- rows that were found again ---


def found_again(offset: int, row_id: str, by: bytes = b"search") -> Record:
    headers = [*headers_of(row(row_id)), (RECOVERED, by)]
    return record(offset, row_id)._replace(headers=tuple(headers))


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_row_whose_label_is_gone_is_labelled_once_more_and_no_more(restarted: bool) -> None:
    broker = Broker()
    delivery = make(broker)
    await take_over(delivery, {ROWS: Commit(-1)}, 1)
    delivery.offer(record(0, "a")._replace(headers=tuple(headers_of(row("a")))), 1)
    await settle(delivery)
    for offset in (1, 2):
        if restarted:  # it dies before it commits
            delivery = make(broker)
            await take_over(delivery, {ROWS: Commit(0)}, 1)
            delivery.offer(record(0, "a")._replace(headers=tuple(headers_of(row("a")))), 1)
            if offset == 2:
                delivery.offer(found_again(1, "a"), 1)
        delivery.offer(found_again(offset, "a"), 1)
        await settle(delivery)
    assert broker.rows() == ["a", "a"]
    assert dict(broker.logs["labeled", 0][1].headers)[RECOVERED] == b"search"
    delivery.offer(found_again(3, "a", b"later"), 1)  # another search, for it was lost once more
    await settle(delivery)
    assert broker.rows() == ["a", "a", "a"]


async def test_of_a_row_that_was_found_again_only_the_wanted_step_works() -> None:
    broker = Broker()
    delivery = make(broker)
    await take_over(delivery, {ROWS: Commit(-1)}, 1)
    delivery.offer(found_again(0, "a", b"search/augment"), 1)
    delivery.offer(found_again(1, "b", b"search/label"), 1)
    await settle(delivery)
    assert broker.rows() == ["b"]
    assert delivery.counts["known:label"] == 1
    assert delivery.commits()[ROWS].offset == 2


async def test_a_row_that_was_found_again_and_given_up_is_not_tried_once_more() -> None:
    broker = Broker()

    async def refuse(message: Row) -> Reject:
        return Reject("refused", "no")

    for start in (0, 0):
        delivery = make(broker, refuse)
        await take_over(delivery, {ROWS: Commit(start)}, 1)
        delivery.offer(found_again(0, "a"), 1)
        await settle(delivery)
    assert len(broker.rows("dead")) == 1


def cut(broker: Broker, end: int) -> None:
    """The rows topic ends at ``end``: its new leader does not have the rest."""
    del broker.logs["rows", 0][end:]


async def test_a_log_that_ends_before_the_commit_is_read_from_its_end() -> None:
    broker, reports = Broker(), Reports()
    filled(broker, 50, 0)
    metadata = orjson.dumps({"topic-ids": {"rows": ID}, "outputs": {}, "done": "", "reached": 77}).decode()
    cut(broker, 30)
    delivery = make(broker, report=reports)
    with capture_logs() as logs:
        await take_over(delivery, {ROWS: Commit(40, metadata)}, 1)
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["commit_beyond_end"]
    assert reports.told == [(ROWS, ID, 30, 40, 77, 1)]
    assert delivery.owed() == delivery.moved() == {ROWS: 30}
    assert delivery.commits()[ROWS].offset == 30
    for offset in range(30, 45):
        delivery.offer(record(offset, f"new {offset}"), 1)
    await settle(delivery)
    assert broker.rows() == [f"new {offset}" for offset in range(30, 45)]
    assert delivery.commits()[ROWS].offset == 45


async def test_what_was_finished_behind_the_end_is_not_taken_for_what_is_written_there() -> None:
    """Messages after the commit were finished, as the outputs say, and lost with the log's end."""
    broker, reports = Broker(), Reports()
    delivery = make(broker, report=reports)
    filled(broker, 10, 0)
    await take_over(delivery, {ROWS: Commit(0)}, 1)
    at_first = delivery.commits()[ROWS]
    for offset in range(10):
        delivery.offer(record(offset, str(offset)), 1)
    await settle(delivery)
    cut(broker, 4)
    second = make(broker, report=reports)
    await take_over(second, {ROWS: at_first}, 2)
    broker.generation = 2
    assert second.owed() == {ROWS: 4}
    for offset in range(4, 8):
        second.offer(record(offset, f"new {offset}"), 2)
    await settle(second)
    assert broker.rows()[10:] == [f"new {offset}" for offset in range(4, 8)]


async def test_a_log_that_loses_its_end_under_a_running_worker_ends_the_worker() -> None:
    broker = Broker()
    filled(broker, 10, 0)
    delivery = make(broker)
    await take_over(delivery, {ROWS: Commit(10)}, 1)
    await delivery.look()
    assert not delivery.unsure
    cut(broker, 4)
    await delivery.look()
    assert "ends at 4, before 10" in delivery.unsure
