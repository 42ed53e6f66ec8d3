"""Every query that asks for rows by their ids takes more and longer ids than one parameter holds."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from connectors.clickhouse.queries.given_labels import labels_at
from connectors.clickhouse.queries.labelled_rows import augmented, labelled
from connectors.clickhouse.queries.lookups import search_labels
from connectors.clickhouse.queries.open_dead_letters import resolved_letters
from connectors.clickhouse.queries.places import times_of
from connectors.clickhouse.queries.review import current_of
from connectors.clickhouse.queries.upload_rows import (
    given_up_of,
    labels_of,
    ranks_of,
    settled_ids,
    variants_of,
)
from connectors.clickhouse.source.shape import ROW
from connectors.clickhouse.source.table import SourceTable
from streams.core.messages import DeadLetter
from streams.core.times import micros_of
from streams.ports.lookups import LabelQuery, Place
from tests.integration.connectors.clickhouse.engine import Database

AT = datetime(2026, 3, 1, tzinfo=UTC)
LATER = AT + timedelta(days=1)
HERE = ["it's", "a\\b", "tab\tend", "дом" * 6_000, *(f"{n:03}{'x' * 20_000}" for n in range(8))]
AWAY = [str(uuid.uuid4()) for _ in range(7_000)]
# One that no query can ask for counts as not there, and the others are found.
IDS = [*HERE[:4], *AWAY, "y" * 200_000, *HERE[4:]]


@pytest.fixture
async def filled(database: Database) -> Database:
    client, settings = database
    row = {"text": "text", "created_at": AT, "label_version": "v1"}
    for table, told in (
        ("logs_labeled", row | {"label": "a", "labeled_at": LATER}),
        ("logs_augmented", row | {"augment_model": "m", "augmented_at": LATER}),
        ("dead_letters", {"step": "label", "reason": "invalid-answer", "failed_at": LATER}),
    ):
        columns = [HERE, range(len(HERE)), *([value] * len(HERE) for value in told.values())]
        await client.insert(table, ["row_id", "_offset", *told], columns, database=settings.result_database)
    await client.command(
        f"INSERT INTO {settings.result_database}.label_versions (version, status, promoted_at) "
        "VALUES ('v1', 'promoted', '2026-03-01')"
    )
    return database


async def test_rows_are_found_among_many_and_long_ids(filled: Database) -> None:
    keys = [(row_id, micros_of(AT)) for row_id in IDS]
    known = {(row_id, micros_of(AT)) for row_id in HERE}
    assert await labelled(*filled, "v1", keys) == known
    assert await augmented(*filled, keys) == known
    assert await settled_ids(*filled, keys, letters=False) == set(HERE)
    later = [(row_id, micros + 1) for row_id, micros in keys]
    assert await settled_ids(*filled, later, letters=False) == set()
    assert await settled_ids(*filled, later, letters=True) == set(HERE)
    ranks = await ranks_of(*filled)
    assert set(await labels_of(*filled, keys, version=None, ranks=ranks)) == set(HERE)
    assert set(await labels_of(*filled, keys, version="v1", ranks=ranks)) == set(HERE)
    assert {row_id for row_id, _ in await variants_of(*filled, keys)} == set(HERE)
    assert await given_up_of(*filled, IDS) == dict.fromkeys(HERE, "invalid-answer")
    places = await times_of(*filled, IDS)
    assert {place.row_id for place in await labels_at(*filled, "v1", places)} == set(HERE)
    assert {one.row_id for one in await current_of(*filled, [Place(AT, row_id) for row_id in IDS])} == set(
        HERE
    )
    page = await search_labels(*filled, LabelQuery(), None, 1_000)
    assert {one.row_id for one in page.labels} == set(HERE)


async def test_dead_letters_of_many_and_long_ids_are_resolved(filled: Database) -> None:
    letters = [
        DeadLetter(row_id=row_id, step="label", reason="x", error="x", failed_at=AT + timedelta(hours=at))
        for at in (1, 48)
        for row_id in IDS
    ]
    found = await resolved_letters(*filled, letters)
    resolved = [one.row_id for one, is_done in zip(letters, found, strict=True) if is_done]
    assert resolved == [row_id for row_id in IDS if row_id in HERE]


async def test_reading_continues_behind_rows_with_long_ids(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, settings = database
    monkeypatch.setattr("connectors.clickhouse.source.table.PAGE_ROWS", 3)
    await client.command(
        f"CREATE TABLE {settings.clickhouse_database}.logs (id String, query_text String, "
        "created_at DateTime) ENGINE = MergeTree ORDER BY created_at"
    )
    await client.command(
        f"INSERT INTO {settings.clickhouse_database}.logs\n"
        "SELECT concat(repeat('z', 90000 * (number % 2)), toString(number)), 'text', '2026-03-01' "
        "FROM numbers(10)"
    )
    source = SourceTable(client, settings)
    assert ROW[1] == "tie"
    found = [row async for page in source.pages(None) for row in page]
    assert sorted(row.id or b"" for row in found) == sorted(
        b"z" * (90_000 * (number % 2)) + str(number).encode() for number in range(10)
    )
