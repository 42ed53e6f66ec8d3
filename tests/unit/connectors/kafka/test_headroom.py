"""How far ahead of its readers a writer may be, and when it goes on."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from structlog.testing import capture_logs

from connectors.kafka.headroom import LEAST, ReaderHeadroom
from connectors.kafka.reader_positions import ReaderPosition, Retention
from streams.core.errors import AccessError, LabelstreamError, UnavailableError
from streams.core.records import Partition

ROWS = [Partition("rows", number) for number in range(2)]
MONTH = Retention(seconds=30 * 86_400.0)


class Topic:
    """A topic of two partitions in memory, its readers, and a clock."""

    def __init__(self, retention: Retention = MONTH, groups: Iterable[str] = ("agents",)) -> None:
        self.kept = retention
        self.now = 0.0
        self.error: LabelstreamError | None = None
        self.first, self.end, self.aged = [0, 0], [0, 0], [0, 0]
        self.read = {group: [-1, -1] for group in groups}

    async def retention(self) -> dict[str, Retention]:
        return {"rows": self.kept}

    async def look(self, share: float) -> dict[tuple[str, Partition], ReaderPosition]:
        if self.error is not None:
            raise self.error
        return {
            (group, ROWS[n]): ReaderPosition(self.first[n], self.end[n], self.read[group][n], self.aged[n])
            for group in self.read
            for n in range(2)
        }

    async def after(self, headroom: ReaderHeadroom, seconds: float) -> None:
        self.now += seconds
        await headroom.refresh()


def made(topic: Topic, *, most: int | None = None, size: float | None = None) -> ReaderHeadroom:
    return ReaderHeadroom(topic, most=most, size_of=lambda _: size, clock=lambda: topic.now)


async def test_nothing_may_be_written_before_the_readers_were_seen() -> None:
    topic = Topic()
    headroom = made(topic, most=100)
    assert headroom.left() == 0
    await headroom.refresh()
    assert headroom.left() == 100


async def test_a_group_that_never_read_bounds_as_one_that_reads_from_the_beginning() -> None:
    topic = Topic()
    headroom = made(topic, most=100)
    topic.first, topic.end = [5, 0], [45, 20]
    await headroom.refresh()
    assert headroom.left() == 40
    assert not headroom.waits


async def test_writing_waits_at_the_bound_and_goes_on_when_a_quarter_of_it_is_free() -> None:
    topic = Topic()
    headroom = made(topic, most=100)
    await headroom.refresh()
    headroom.wrote(100)
    assert headroom.left() == 0
    topic.end = [50, 50]
    with capture_logs() as logs:
        await topic.after(headroom, 5)
        assert headroom.left() == 0
        assert [wait.unread for wait in headroom.waits] == [100]
        topic.read["agents"] = [12, 12]
        await topic.after(headroom, 5)
        assert headroom.left() == 0
        topic.read["agents"] = [13, 13]
        await topic.after(headroom, 5)
        assert headroom.left() == 26
        for _ in range(4):
            assert headroom.waits
            await topic.after(headroom, 5)
        assert not headroom.waits
    assert [line["event"] for line in logs] == ["waits_for_readers", "readers_keep_up"]
    assert logs[0] | {"topic": "rows", "group": "agents", "unread": 100, "why": "messages"} == logs[0]


async def test_what_was_handed_over_and_is_not_confirmed_counts() -> None:
    topic = Topic()
    headroom = made(topic, most=100)
    await headroom.refresh()
    headroom.wrote(60)
    assert headroom.left() == 40
    topic.now += 5
    await headroom.refresh(pending=60)
    assert headroom.left() == 40


async def test_no_more_waits_than_the_reader_reads_in_a_share_of_the_retention() -> None:
    topic = Topic(Retention(seconds=100.0))
    headroom = made(topic)
    await headroom.refresh()
    assert headroom.left() == 50  # nothing is known of the reader: one a second
    topic.end, topic.read["agents"] = [10_000, 10_000], [0, 0]
    for _ in range(50):
        topic.read["agents"] = [one + 40 for one in topic.read["agents"]]
        await topic.after(headroom, 4)
    topic.end = list(topic.read["agents"])
    await topic.after(headroom, 4)
    assert 400 < headroom.left() <= 500


async def test_a_slow_partition_holds_and_the_others_do_not() -> None:
    topic = Topic(Retention(seconds=100.0))
    headroom = made(topic)
    topic.end = [51, 10]
    await headroom.refresh()
    assert headroom.full(ROWS[0])
    assert not headroom.full(ROWS[1])
    assert headroom.left() == 0


async def test_the_pace_is_that_of_a_reader_at_work() -> None:
    """An idle reader, or one whose messages came slowly, is not slow."""
    topic = Topic(Retention(seconds=100.0))
    headroom = made(topic)
    await headroom.refresh()
    for _ in range(100):
        topic.end = [topic.end[0] + 1, topic.end[1] + 1]
        topic.read["agents"] = list(topic.end)
        await topic.after(headroom, 5)
    assert headroom.left() == 50


async def test_an_outage_that_is_short_for_the_retention_holds_nothing() -> None:
    topic = Topic()
    headroom = made(topic, most=1_000_000)
    topic.end = [1000, 1000]
    await headroom.refresh()
    for _ in range(720):
        await topic.after(headroom, 5)
    assert headroom.left() == 998_000


@pytest.mark.parametrize("groups", [("agents",), ("agents", "sink")])
async def test_the_age_of_the_oldest_unread_message_holds(groups: tuple[str, ...]) -> None:
    topic = Topic(groups=groups)
    topic.end = [100, 100]
    topic.read = {group: [100, 100] for group in groups}
    topic.read[groups[-1]] = [100, 7]
    topic.aged = [90, 7]
    headroom = made(topic, most=1000)
    await headroom.refresh()
    assert headroom.left() == 907
    topic.aged = [90, 8]
    await topic.after(headroom, 5)
    assert headroom.left() == 0
    assert headroom.full(ROWS[1])
    assert not headroom.full(ROWS[0])
    assert headroom.waits == [("rows", groups[-1], 93, "age")]
    topic.read[groups[-1]] = [100, 100]
    await topic.after(headroom, 5)
    assert headroom.left() == 1000


async def test_a_partition_that_keeps_so_many_bytes_holds_half_of_them_unread() -> None:
    topic = Topic(Retention(size=100_000))
    headroom = made(topic, size=100.0)
    await headroom.refresh()
    assert headroom.left() == 500
    assert made(topic, size=None).left() == 0
    guessed = made(topic)
    await guessed.refresh()
    assert guessed.left() == 50


async def test_a_topic_that_keeps_all_bounds_by_messages_alone() -> None:
    topic = Topic(Retention())
    headroom = made(topic, most=1_000_000)
    topic.end = [400_000, 0]
    await headroom.refresh()
    assert headroom.left() == 600_000
    endless = made(topic)
    await endless.refresh()
    assert endless.left() == 2**31


async def test_a_little_may_be_written_however_short_the_retention() -> None:
    headroom = made(Topic(Retention(seconds=1.0, size=10)))
    await headroom.refresh()
    assert headroom.left() == LEAST


async def test_a_topic_made_anew_counts_whole() -> None:
    topic = Topic()
    topic.end, topic.read["agents"] = [30, 0], [5000, 0]
    headroom = made(topic, most=100)
    await headroom.refresh()
    assert headroom.left() == 70


async def test_a_group_that_is_rewound_holds_and_its_pace_stands() -> None:
    topic = Topic(Retention(seconds=100.0))
    headroom = made(topic)
    topic.end, topic.read["agents"] = [500, 0], [500, 0]
    await headroom.refresh()
    assert headroom.left() == 50
    topic.read["agents"] = [100, 0]
    await topic.after(headroom, 5)
    assert headroom.full(ROWS[0])
    topic.read["agents"] = [480, 0]
    await topic.after(headroom, 5)
    assert not headroom.full(ROWS[0])


async def test_while_kafka_is_away_what_was_seen_last_stands() -> None:
    topic = Topic()
    headroom = made(topic, most=100)
    await headroom.refresh()
    topic.error = UnavailableError("nobody answers")
    with capture_logs() as logs:
        for _ in range(3):
            headroom.wrote(30)
            await topic.after(headroom, 5)
    assert headroom.left() == 10
    assert [line["event"] for line in logs] == ["readers_not_seen"]


async def test_where_the_group_may_not_be_seen_nothing_is_held_and_it_is_said() -> None:
    topic = Topic()
    topic.error = AccessError("no right", setting="KAFKA_SASL_USERNAME", fix="allow it")
    headroom = made(topic, most=100)
    with capture_logs() as logs:
        for _ in range(3):
            await topic.after(headroom, 5)
    assert headroom.left() == 2**31
    assert not headroom.full(ROWS[0])
    assert [line["fix"] for line in logs] == ["allow it"]


async def test_a_look_is_due_every_few_seconds_and_sooner_where_little_is_kept() -> None:
    for seconds, every in ((30 * 86_400.0, 5.0), (20.0, 0.5), (1.0, 0.25)):
        topic = Topic(Retention(seconds=seconds))
        headroom = made(topic)
        await headroom.refresh()
        await topic.after(headroom, every * 0.9)
        assert headroom.looks == 1
        await topic.after(headroom, every * 0.2)
        assert headroom.looks == 2
        topic.now += 0.25
        await headroom.refresh(now=True)
        assert headroom.looks == 3
