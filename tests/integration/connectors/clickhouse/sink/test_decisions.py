"""What people say last stands: labels, corrections and undos of one row, whatever happens to inserts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.queries.gold import human_answers
from streams.core.label_version import HUMAN, UNDONE
from streams.core.messages import HumanLabel, Labeled
from streams.core.records import Commit, Partition
from streams.core.settings import Settings
from streams.quality.gold import gold_labels
from tests.integration.connectors.clickhouse.engine import (
    BadLine,
    Database,
    fresh_database,
    run_until_stored,
    sink_for,
)
from tests.unit.connectors.clickhouse.sink.fakes import (
    A0,
    L0,
    START,
    TOPICS,
    FakeInput,
    FakeKafka,
    FakeLease,
    augmented,
    labeled,
)


@pytest.fixture
def line(address: tuple[str, int]) -> Iterator[BadLine]:
    bad_line = BadLine(address)
    bad_line.cut_response = True
    yield bad_line
    bad_line.close()


def through(line: BadLine, configured: Settings) -> ClickHouseClient:
    return ClickHouseClient.from_settings(
        configured.model_copy(update={"clickhouse_port": line.address[1]}), answer_seconds=5.0
    )


def said(row: int, label: str, second: int, *, undo: bool = False) -> Labeled:
    """A person's label of a row. With ``undo`` the label that it had before."""
    return labeled(
        row,
        label=label,
        label_version=HUMAN,
        model=f"{HUMAN}:anna{UNDONE if undo else ''}",
        confidence=None,
        labeled_at=START + timedelta(seconds=second),
    )


async def merge(database: Database, table: str = "logs_labeled") -> None:
    client, configured = database
    await client.command(f"OPTIMIZE TABLE {configured.result_database}.{table} FINAL")


async def current(database: Database) -> dict[str, str]:
    client, configured = database
    return dict(
        await client.rows(
            f"SELECT row_id, toString(label) FROM {configured.result_database}.logs_labeled_current"
        )
    )


async def offsets(database: Database, table: str = "logs_labeled") -> list[int]:
    """Of the messages that the table holds, each as often as it is there."""
    client, configured = database
    return [
        row[0]
        for row in await client.rows(
            f"SELECT _offset FROM {configured.result_database}.{table} ORDER BY _offset"
        )
    ]


# --- one scene each ---


async def test_two_labels_in_one_batch_whose_owner_dies_before_the_commit(database: Database) -> None:
    client, configured = database
    kafka = FakeKafka()
    records = [
        kafka.publish(said(1, label, at), TOPICS.labeled) for label, at in (("first", 1), ("second", 2))
    ]
    dead = sink_for(client, configured, kafka)
    await dead.assigned({L0: Commit(-1)}, 1)
    await dead.store(records)
    heir = sink_for(client, configured, kafka)
    await run_until_stored(heir, FakeInput(kafka, [L0], {}))
    assert heir.counts["already_stored"] == 2
    for _ in range(2):
        assert await offsets(database) == [0, 1]
        assert await current(database) == {"1": "second"}
        await merge(database)


async def test_a_label_is_stored_with_how_its_row_was_drawn(database: Database) -> None:
    client, configured = database
    kafka = FakeKafka()
    drawn = HumanLabel.model_validate(
        said(1, "a", 1).model_dump() | {"drawn_by": "audit", "draw_probability": 0.01}
    )
    for message in (drawn, said(2, "a", 1)):
        kafka.publish(message, TOPICS.labeled)
    await run_until_stored(sink_for(client, configured, kafka), FakeInput(kafka, [L0], {}))
    answers = [one async for one in human_answers(client, configured)]
    assert [(one.drawn_by, one.draw_probability) for one in answers] == [("audit", 0.01), (None, None)]


@pytest.mark.parametrize("undone", ["first", "last", "not"])
async def test_a_label_and_its_undo_of_one_tick(database: Database, undone: str) -> None:
    client, configured = database
    kafka = FakeKafka()
    for undo in {"first": (True, False), "last": (False, True), "not": (False, False)}[undone]:
        kafka.publish(said(1, "a", 1, undo=undo), TOPICS.labeled)
    await run_until_stored(sink_for(client, configured, kafka), FakeInput(kafka, [L0], {}))
    gold = [one.row_id async for one in gold_labels(client, configured)]
    assert gold == ([] if undone == "last" else ["1"])


async def test_two_labels_of_one_tick_whose_answer_is_lost(
    database: Database, line: BadLine, quick: None
) -> None:
    client, configured = database
    kafka = FakeKafka()
    for label in ("first", "second"):
        kafka.publish(said(1, label, 1), TOPICS.labeled)
    writer = through(line, configured)
    await writer.command("SELECT 1")
    line.times = 1
    sink = sink_for(client, configured, kafka, writer=writer)
    await run_until_stored(sink, FakeInput(kafka, [L0], {}))
    await writer.close()
    assert line.cuts == 1
    for _ in range(2):
        assert await offsets(database) == [0, 1]
        assert await current(database) == {"1": "second"}
        await merge(database)


async def test_a_correction_that_was_merged_and_a_group_that_is_rewound(database: Database) -> None:
    client, configured = database
    kafka = FakeKafka()
    first = sink_for(client, configured, kafka)
    await first.assigned({L0: Commit(-1)}, 1)
    for label, at in (("first", 1), ("second", 2)):
        await first.store([kafka.publish(said(1, label, at), TOPICS.labeled)])
        await merge(database)
    rewound = sink_for(client, configured, kafka)
    await run_until_stored(rewound, FakeInput(kafka, [L0], {}))
    await merge(database)
    assert rewound.counts["stored:logs_labeled"] == 0
    assert await offsets(database) == [0, 1]
    assert await current(database) == {"1": "second"}


async def test_variants_that_are_written_again_stay_beside_the_first(database: Database) -> None:
    client, configured = database
    kafka = FakeKafka()
    for at in (1, 2):
        kafka.publish(augmented(1, augmented_at=START + timedelta(seconds=at)), TOPICS.augmented)
    await run_until_stored(sink_for(client, configured, kafka), FakeInput(kafka, [A0], {}))
    await merge(database, "logs_augmented")
    assert await offsets(database, "logs_augmented") == [0, 1]


async def test_a_message_that_is_stored_twice_is_merged_into_one(database: Database) -> None:
    """The last line: should two owners ever store one message, a merge takes the second away."""
    client, configured = database
    kafka = FakeKafka()
    records = [kafka.publish(said(row, "a", 1), TOPICS.labeled) for row in (1, 2)]
    for _ in range(2):
        owner = sink_for(client, configured, kafka)
        await owner.assigned({L0: Commit(len(records))}, 1)
        await owner.store(records)
    assert await offsets(database) == [0, 0, 1, 1]
    await merge(database)
    assert await offsets(database) == [0, 1]


# --- any order of all of them ---

_ROWS = st.integers(1, 4)
_SECONDS = st.integers(0, 3)
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("label"), _ROWS, st.sampled_from("abc"), _SECONDS),
        st.tuples(st.just("undo"), _ROWS, st.sampled_from("abc"), _SECONDS),
        st.tuples(st.just("store"), st.integers(1, 5)),
        st.tuples(st.just("cut")),
        st.tuples(st.just("run")),
        st.tuples(st.just("rewind"), st.integers(-1, 10)),
        st.tuples(st.just("merge")),
    ),
    min_size=8,
    max_size=30,
)


class Scene:
    """A topic of labels, and owners of its partition that come and go."""

    def __init__(self, database: Database, line: BadLine, writer: ClickHouseClient) -> None:
        self.database = database
        self.kafka = FakeKafka()
        self.told: list[Labeled] = []
        self._line = line
        self._writer = writer
        self._commits: dict[Partition, Commit] = {}
        self._generation = 0

    async def play(self, step: Sequence[object]) -> None:
        match step:
            case ("label" | "undo" as what, int(row), str(label), int(second)):
                message = said(row, label, second, undo=what == "undo")
                self.told.append(message)
                self.kafka.publish(message, TOPICS.labeled)
            case ("store", int(most)):
                await self._store(most)
            case ("cut",):
                self._line.times = self._line.cuts + 1
            case ("run",):
                await self.settle()
            case ("rewind", int(offset)):
                at = self._commits.get(L0, Commit(-1)).offset
                self._commits[L0] = Commit(min(offset, at))
            case ("merge",):
                await merge(self.database)

    async def settle(self) -> None:
        """An owner that stores and commits all there is."""
        client, configured = self.database
        self._generation += 1
        sink = sink_for(
            client, configured, self.kafka, lease=FakeLease(self._generation), writer=self._writer
        )
        source = FakeInput(self.kafka, [L0], self._commits)
        await run_until_stored(sink, source, generation=self._generation)

    async def _store(self, most: int) -> None:
        """An owner that stores some messages and dies before it commits."""
        client, configured = self.database
        self._generation += 1
        sink = sink_for(
            client, configured, self.kafka, lease=FakeLease(self._generation), writer=self._writer
        )
        commit = self._commits.get(L0, Commit(-1))
        await sink.assigned({L0: commit}, self._generation)
        log = self.kafka.logs.get(L0, [])
        start = max(commit.offset, 0)
        if records := log[start : start + most]:
            await sink.store(records)

    async def check(self) -> None:
        client, configured = self.database
        assert await offsets(self.database) == list(range(len(self.told)))
        last: dict[str, tuple[object, int]] = {}
        for offset, message in enumerate(self.told):
            newest = (message.labeled_at, offset)
            last[message.row_id] = max(last.get(message.row_id, newest), newest)
        decided = {row: self.told[offset] for row, (_, offset) in last.items()}
        assert await current(self.database) == {row: one.label for row, one in decided.items()}
        gold = {one.row_id: one.label async for one in gold_labels(client, configured)}
        assert gold == {row: one.label for row, one in decided.items() if not one.model.endswith(UNDONE)}


@given(steps=_STEPS)
@settings(
    max_examples=settings().max_examples // 10, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_the_last_decision_stands(
    address: tuple[str, int], quick: None, steps: list[tuple[object, ...]]
) -> None:
    line = BadLine(address)
    line.cut_response = True
    async with fresh_database(address) as database:
        client, configured = database
        writer = through(line, configured)
        await writer.command("SELECT 1")
        scene = Scene(database, line, writer)
        for step in steps:
            await scene.play(step)
        await scene.settle()
        await scene.check()
        await merge(database)
        await scene.check()
        await writer.close()
        await client.command(f"DROP DATABASE {configured.result_database}")
    line.close()
