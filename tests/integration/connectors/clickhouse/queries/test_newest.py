"""Of several messages of one row and version every reader takes the same: the newest, by time and place."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.clickhouse.queries.given_labels import labels_at, labels_of_texts
from connectors.clickhouse.queries.label_versions import register_version
from connectors.clickhouse.queries.lookups import row_history, search_labels
from connectors.clickhouse.queries.upload_rows import labels_of, ranks_of, variants_of
from connectors.clickhouse.queries.version_diff import diff_versions
from connectors.clickhouse.sink.batch import to_batch
from streams.core.codec import encode
from streams.core.label_version import HUMAN
from streams.core.messages import Augmented, Labeled
from streams.core.records import Record
from streams.core.times import micros_of
from streams.ports.lookups import LabelQuery, Place
from streams.quality.gold import gold_labels
from tests.integration.connectors.clickhouse.engine import Database, fresh_database
from tests.unit.connectors.clickhouse.sink.fakes import START, augmented, labeled

TOPIC = UUID(int=7)
VERSIONS = ("v1", "v2", HUMAN)  # v2 is the newest promoted one
LABELS = ("a", "b", "c")
ROWS = range(1, 9)

# Row, version, label, second of labelling: few of each, so that times meet. Its number is the offset.
Decision = tuple[int, str, str, int]
decisions = st.lists(
    st.tuples(st.sampled_from(ROWS), st.sampled_from(VERSIONS), st.sampled_from(LABELS), st.integers(0, 2)),
    min_size=10,
    max_size=60,
)


def message_of(decision: Decision) -> Labeled:
    row, version, label, second = decision
    return labeled(
        row,
        label=label,
        label_version=version,
        model=f"{HUMAN}:anna" if version == HUMAN else "m",
        confidence=None if label == "a" else 0.5,
        labeled_at=START + timedelta(seconds=second),
    )


def variants_of_message(decision: Decision) -> Augmented:
    row, version, label, second = decision
    return augmented(
        row,
        label_version=version,
        variants=[label],
        augment_model=f"q{second % 2}",
        augmented_at=START + timedelta(seconds=second),
    )


async def store(database: Database, table: str, messages: Sequence[tuple[int, Labeled]]) -> None:
    """In one part, in the order given; each message with its offset."""
    client, configured = database
    kind = Augmented if table == "logs_augmented" else Labeled
    records = [Record("esk.labeled", 0, offset, 0, b"k", encode(one), ()) for offset, one in messages]
    batch, refused = to_batch(kind, records, TOPIC)
    assert not refused
    await client.insert_arrow(configured.result_database, table, batch.rows)


def newest(told: Sequence[Decision]) -> dict[tuple[int, str], str]:
    """The label of each row and version that counts."""
    best = {(row, version): (0, 0, "") for row, version, _, _ in told}
    for offset, (row, version, label, second) in enumerate(told):
        best[(row, version)] = max(best[(row, version)], (second, offset, label))
    return {key: label for key, (_, _, label) in best.items()}


async def each_reader(database: Database, told: Sequence[Decision]) -> None:
    client, configured = database
    expected = newest(told)
    current = {
        str(row): next(
            expected[(row, version)] for version in reversed(VERSIONS) if (row, version) in expected
        )
        for row in {row for row, _, _, _ in told}
    }
    name = configured.result_database
    rows = await client.rows(f"SELECT row_id, toString(label) FROM {name}.logs_labeled_current")
    assert dict(rows) == current
    gold = {one.row_id: one.label async for one in gold_labels(client, configured)}
    assert gold == {str(row): label for (row, version), label in expected.items() if version == HUMAN}
    keys = [(str(row), micros_of(labeled(row).created_at)) for row in ROWS]
    ranks = await ranks_of(client, configured)
    found = await labels_of(client, configured, keys, version=None, ranks=ranks)
    assert {row: one.label for row, one in found.items()} == current
    page = await search_labels(client, configured, LabelQuery(), None, 10)
    assert {one.row_id: one.label for one in page.labels} == current
    for version in VERSIONS:
        mine = {str(row): label for (row, other), label in expected.items() if other == version}
        places = [Place(labeled(row).created_at, str(row)) for row in ROWS]
        at = await labels_at(client, configured, version, places)
        assert {place.row_id: label.label for place, label in at.items()} == mine
        texts = {labeled(row).text: row for row in ROWS}
        by_text = await labels_of_texts(client, configured, version, list(texts))
        assert {str(texts[text]): label.label for text, label in by_text.items()} == mine
        found = await labels_of(client, configured, keys, version=version, ranks=ranks)
        assert {row: one.label for row, one in found.items()} == mine
        page = await search_labels(client, configured, LabelQuery(version=version), None, 10)
        assert {one.row_id: one.label for one in page.labels} == mine
        page = await search_labels(client, configured, LabelQuery(version=version, label="b"), None, 10)
        assert {one.row_id for one in page.labels} == {row for row, label in mine.items() if label == "b"}
    for row in ROWS[:2]:
        history = await row_history(client, configured, str(row))
        labels = {} if history is None else {one.label_version: one.label for one in history.labels}
        assert labels == {version: label for (other, version), label in expected.items() if other == row}
    for a, b in itertools.combinations({version for _, version in expected}, 2):
        diff = await diff_versions(client, configured, a, b, changed=10)
        shared = {row for row in ROWS if {(row, a), (row, b)} <= expected.keys()}
        assert diff.rows == len(shared)
        assert {(one.row_id, one.label_a, one.label_b) for one in diff.changed} == {
            (str(row), expected[(row, a)], expected[(row, b)])
            for row in shared
            if expected[(row, a)] != expected[(row, b)]
        }
        for one in diff.changed:
            assert (one.confidence_a, one.confidence_b) == tuple(
                None if label == "a" else 0.5 for label in (one.label_a, one.label_b)
            )


@given(data=st.data(), told=decisions)
@settings(
    max_examples=settings().max_examples // 10, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_every_reader_takes_the_newest(
    address: tuple[str, int], data: st.DataObject, told: list[Decision]
) -> None:
    order = data.draw(st.permutations(range(len(told))), label="order of storing")
    cut = data.draw(st.integers(0, len(told)), label="rows of the first part")
    async with fresh_database(address) as database:
        client, configured = database
        for version in VERSIONS[:2]:
            await register_version(client, configured, version=version, model="m")
        messages = [(offset, message_of(told[offset])) for offset in order]
        for part in (messages[:cut], messages[cut:]):
            if part:
                await store(database, "logs_labeled", part)
        await each_reader(database, told)
        await client.command(f"OPTIMIZE TABLE {configured.result_database}.logs_labeled FINAL")
        await each_reader(database, told)
        await client.command(f"DROP DATABASE {configured.result_database}")


async def test_the_newest_variants_are_taken_whatever_model_wrote_them(database: Database) -> None:
    client, configured = database
    told: list[Decision] = [
        (1, "v1", "old", 1),
        (1, "v1", "new", 2),
        (1, "v1", "tick", 2),
        (1, "v2", "other", 0),
    ]
    messages = [(offset, variants_of_message(decision)) for offset, decision in enumerate(told)]
    await store(database, "logs_labeled", [(0, labeled(1))])
    for part in (messages[2:], messages[:2]):
        await store(database, "logs_augmented", part)
    keys = [("1", micros_of(labeled(1).created_at))]
    for _ in range(2):
        assert await variants_of(client, configured, keys) == {("1", "v1"): ["tick"], ("1", "v2"): ["other"]}
        history = await row_history(client, configured, "1")
        assert history is not None
        assert sorted((one.label_version, one.augment_model, one.variants) for one in history.variants) == [
            ("v1", "q0", ["tick"]),
            ("v1", "q1", ["old"]),
            ("v2", "q0", ["other"]),
        ]
        await client.command(f"OPTIMIZE TABLE {configured.result_database}.logs_augmented FINAL")
    assert await client.rows(f"SELECT count() FROM {configured.result_database}.logs_augmented") == [(4,)]
