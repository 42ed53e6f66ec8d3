"""Taking partitions over: what a former owner did is known, whatever became of the topics meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest

from streams.core.codec import encode
from streams.core.messages import Augmented, Labeled, Row
from streams.core.outcomes import Done
from streams.core.records import Commit, Outgoing, Partition, Record
from streams.delivery.commit_window import known_from
from streams.delivery.delivery import Delivery
from streams.delivery.routes import Flow, Limits, Route
from tests.unit.streams.delivery.fakes import (
    NOW,
    REPLAY,
    ROWS,
    Broker,
    label,
    make,
    no_sleep,
    record,
    row,
    settle,
    take_over,
)


def outputs_in(commit: Commit, topic: str) -> dict[str, int]:
    ids = {name: str(UUID(int=0)) for name in ("rows", "labeled", "replay", "augmented", "dead")}
    known = known_from(commit, topic, ids)
    assert known is not None
    return dict(known.outputs)


async def test_a_new_owner_skips_what_the_tail_holds_even_without_metadata() -> None:
    broker = Broker()
    first = make(broker)
    await take_over(first, {ROWS: Commit(-1)}, 1)
    for offset in range(4):
        first.offer(record(offset, str(offset)), 1)
    await settle(first)
    calls: list[str] = []

    async def counted(message: Row) -> Any:
        calls.append(message.row_id)
        return await label(message)

    second = make(broker, counted)
    await take_over(second, {ROWS: Commit(0)}, 2)
    broker.generation = 2
    for offset in range(6):
        second.offer(record(offset, str(offset)), 2)
    await settle(second)
    assert sorted(broker.rows()) == ["0", "1", "2", "3", "4", "5"]
    assert sorted(calls) == ["4", "5"]


async def test_an_owner_that_consumes_nothing_leaves_its_successor_the_same_tail() -> None:
    broker = Broker()
    first = make(broker)
    await take_over(first, {ROWS: Commit(-1)}, 1)
    at_the_start = first.commits()
    for offset in range(4):
        first.offer(record(offset, str(offset)), 1)
    await settle(first)  # and killed before it commits again
    committed = dict(at_the_start)
    for generation, consumed in ((2, 0), (3, 2), (4, 6)):
        broker.generation = generation
        owner = make(broker)
        await take_over(owner, committed, generation)
        for offset in range(max(0, committed[ROWS].offset), consumed):
            owner.offer(record(offset, str(offset)), generation)
        await settle(owner)
        committed = owner.commits()
        assert committed[ROWS].offset == max(4, consumed)
    assert sorted(broker.rows()) == ["0", "1", "2", "3", "4", "5"]
    # What was known is behind: whoever is next reads from the end.
    assert outputs_in(committed[ROWS], "rows")["labeled"] == len(broker.rows())


async def test_a_new_owner_waits_for_what_was_written_and_is_not_yet_on_every_replica() -> None:
    broker = Broker()
    first = make(broker)
    await take_over(first, {ROWS: Commit(-1)}, 1)
    for offset in range(4):
        first.offer(record(offset, str(offset)), 1)
    await settle(first)
    broker.high_watermark[("labeled", 0)] = 4  # a follower is slow
    for offset in range(4, 10):
        first.offer(record(offset, str(offset)), 1)
    while len(broker.rows()) < 10:
        await asyncio.sleep(0)
    committed = first.commits()
    await first.revoked(owner=False, seconds=0.1)
    broker.generation = 2
    second = make(broker)
    await second.assigned(committed, 2)
    for offset in range(4, 12):
        second.offer(record(offset, str(offset)), 2)
    for _ in range(100):
        await asyncio.sleep(0)
    assert second.taking_over() == second.crowded() == {ROWS}
    assert second.commits() == {}
    del broker.high_watermark[("labeled", 0)]
    await settle(second)
    assert sorted(map(int, broker.rows())) == list(range(12))


async def test_a_partition_whose_output_cannot_be_read_to_its_end_waits_alone() -> None:
    broker, other = Broker(), Partition("rows", 1)
    broker.logs["labeled", 1] = [Outgoing("labeled", 1, b"x", b"{}", [("message-type", b"labeled")])]
    broker.high_watermark["labeled", 1] = 0
    delivery = make(broker)
    await delivery.assigned({ROWS: Commit(-1), other: Commit(-1)}, 1)
    delivery.offer(record(0, "0"), 1)
    delivery.offer(record(0, "1")._replace(partition=1), 1)
    await settle(delivery)
    assert delivery.taking_over() == {other}
    assert broker.rows() == ["0"]
    assert delivery.commits().keys() == {ROWS}
    assert delivery.positions() == {ROWS: 1, other: 0}
    del broker.high_watermark["labeled", 1]
    await settle(delivery)
    assert delivery.commits().keys() == {ROWS, other}
    assert [message.key for message in broker.logs["labeled", 1]] == [b"x", b"1"]


async def test_input_made_anew_is_read_from_its_beginning_and_its_rows_are_known() -> None:
    broker = Broker()
    delivery = make(broker)
    await take_over(delivery, {ROWS: Commit(-1)}, 1)
    for offset in range(3):
        delivery.offer(record(offset, str(offset)), 1)
    await settle(delivery)
    commit = delivery.commits()[ROWS]
    assert commit.offset == 3

    broker.incarnations["rows"] = 1
    later = make(broker)
    at_once = await take_over(later, {ROWS: commit}, 1)
    assert at_once[ROWS].offset == 0
    for offset, row_id in enumerate(["2", "3"]):
        later.offer(record(offset, row_id), 1)
    await settle(later)
    assert later.commits()[ROWS].offset == 2
    assert broker.rows() == ["0", "1", "2", "3"]


async def test_output_made_anew_is_read_whole() -> None:
    broker = Broker()
    delivery = make(broker)
    await take_over(delivery, {ROWS: Commit(-1)}, 1)
    for offset in range(3):
        delivery.offer(record(offset, str(offset)), 1)
    await settle(delivery)
    commit = delivery.commits()[ROWS]

    # Another of the same name, in which a former owner has published 3 and 4 since.
    broker.incarnations["labeled"] = 1
    log = broker.logs[("labeled", 0)]
    log[:] = [log[0], log[1], log[2], log[0]]
    log[0] = Outgoing("labeled", 0, b"3", log[0].value, log[0].headers)
    later = make(broker)
    await take_over(later, {ROWS: commit}, 1)
    later.offer(record(3, "3"), 1)
    await settle(later)
    assert len(broker.rows()) == 4


async def test_one_replay_topic_leads_to_two_steps_and_floors_follow_all_outputs() -> None:
    broker = Broker()
    labelling = Route(Row, Labeled, label, "labeled", "v1")

    async def augment(message: Row) -> Any:
        values = message.model_dump() | {"augment_model": "q", "augmented_at": NOW}
        return Done(Augmented.model_validate(values))

    augmenting = Route(Labeled, Augmented, augment, "augmented")
    delivery = Delivery(
        Flow(
            ("rows", "labeled", "replay"),
            ("labeled", "augmented"),
            "dead",
            lambda found: augmenting if found.key == b"l" else labelling,
        ),
        sender=broker,
        tail=broker,
        topic_ids=broker,
        lease=broker,
        limits=Limits({"label": 2, "augment": 2}),
        sleep=no_sleep,
    )
    await take_over(delivery, {ROWS: Commit(-1), REPLAY: Commit(-1)}, 1)
    labelled = Labeled(**row("9").model_dump(), label="x", label_version="v1", model="m", labeled_at=NOW)
    delivery.offer(record(0, "1", topic="replay"), 1)
    delivery.offer(Record("replay", 0, 1, 0, b"l", encode(labelled)), 1)
    await settle(delivery)
    assert (broker.rows("labeled"), broker.rows("augmented")) == (["1"], ["9"])
    # What the replay wrote moves the ends in the live rows' commit too.
    assert outputs_in(delivery.commits()[ROWS], "rows") == {"labeled": 1, "augmented": 1, "dead": 0}


@pytest.mark.parametrize("whole", [False, True])
async def test_answers_of_older_outputs_are_remembered_but_no_more_than_asked(whole: bool) -> None:
    """Also where nothing is committed, and so all is read."""
    broker = Broker()
    first = make(broker)
    await take_over(first, {ROWS: Commit(-1)}, 1)
    for offset in range(30):
        first.offer(record(offset, str(offset)), 1)
        await settle(first)
    seen: list[bytes | None] = []
    route = Route(Row, Labeled, label, "labeled", "v1")
    second = Delivery(
        Flow(("rows",), ("labeled",), "dead", lambda _: route, recall=lambda found: seen.append(found.key)),
        sender=broker,
        tail=broker,
        topic_ids=broker,
        lease=broker,
        limits=Limits({"label": 2}, recalled=10),
    )
    await take_over(second, {ROWS: Commit(-1) if whole else first.commits()[ROWS]}, 1)
    assert seen == [str(offset).encode() for offset in range(20, 30)]


async def test_rows_of_a_topic_whose_commits_went_with_it_are_known() -> None:
    """Kafka deletes a topic's committed offsets with the topic; those of the worker's other topics stay."""
    broker = Broker()
    first = make(broker)
    await take_over(first, {ROWS: Commit(-1), REPLAY: Commit(-1)}, 1)
    for offset in range(5):
        first.offer(record(offset, str(offset)), 1)
    first.offer(record(0, "old", topic="replay"), 1)
    await settle(first)
    committed = first.commits()
    second = make(broker)
    await take_over(second, committed, 1)
    second.offer(record(5, "5"), 1)
    await settle(second)
    broker.incarnations["rows"] = 1
    third = make(broker)
    await take_over(third, {ROWS: Commit(-1), REPLAY: second.commits()[REPLAY]}, 1)
    for offset in range(6):
        third.offer(record(offset, str(offset)), 1)
    await settle(third)
    assert sorted(broker.rows()) == ["0", "1", "2", "3", "4", "5", "old"]
    assert third.counts["known:label"] == 6
