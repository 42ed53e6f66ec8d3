"""Questions about all that is stored look at a part of it where that is much: what they answer then."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import pytest

from connectors.clickhouse.queries import (
    given_labels,
    lookups,
    overview,
    relabel_rows,
    review,
    version_diff,
)
from connectors.clickhouse.queries.given_labels import first_of_texts, labels_of_texts
from connectors.clickhouse.queries.label_versions import register_version
from connectors.clickhouse.queries.lookups import search_labels
from connectors.clickhouse.queries.overview import label_picture
from connectors.clickhouse.queries.relabel_rows import Condition, LabelledRows
from connectors.clickhouse.queries.review import least_sure, review_counts
from connectors.clickhouse.queries.version_diff import diff_versions
from streams.ports.lookups import LabelQuery, Place
from streams.quality.gold import gold_labels
from tests.integration.connectors.clickhouse.engine import Database

ROWS = 400
FIRST = datetime(2026, 3, 1, tzinfo=UTC)


async def add(database: Database, version: str = "v1", every: int = 1, model: str = "m") -> None:
    """A row a minute; its label is its number of ten, the higher its number the less sure."""
    client, settings = database
    await client.command(
        f"INSERT INTO {settings.result_database}.logs_labeled (row_id, text, created_at, label, "
        f"label_version, confidence, model, labeled_at) "
        f"SELECT toString(number * {every}) AS row_id, concat('text ', row_id), "
        f"toDateTime64('2026-03-01 00:00:00', 6, 'UTC') + toIntervalMinute(number * {every}) AS created_at, "
        f"toString(number * {every} % 10), '{version}', 1 - number * {every} / {ROWS}, '{model}', "
        f"created_at + toIntervalSecond({1 if version == 'v1' else 2}) FROM numbers({ROWS // every})"
    )
    await register_version(client, settings, version=version, model=model)


@pytest.mark.parametrize(
    ("query", "fits"),
    [
        (LabelQuery(), range(ROWS)),
        (LabelQuery(label="3"), range(3, ROWS, 10)),
        (LabelQuery(text="text 77"), [77]),
        (LabelQuery(label="nothing"), []),
        (LabelQuery(label="3", until=FIRST.replace(hour=2), since=FIRST.replace(hour=1)), range(63, 120, 10)),
    ],
)
async def test_a_search_goes_on_from_where_it_ended(
    database: Database, query: LabelQuery, fits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each row once, the newest first, however often a page ends before it is full."""
    monkeypatch.setattr(lookups, "_FIRST_WINDOW", 40)
    monkeypatch.setattr(lookups, "_LAST_WINDOW", 40)
    monkeypatch.setattr(lookups, "_SEARCH_SECONDS", 0.0)
    await add(database)
    found: list[int] = []
    after: Place | None = None
    pages = 0
    while True:
        page = await search_labels(*database, query, after, 25)
        found += [int(one.row_id) for one in page.labels]
        pages += 1
        if page.next is None:
            break
        after = page.next
    assert found == sorted(fits, reverse=True)
    assert pages > 1


async def test_the_least_sure_of_the_newest_rows_come_first(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(review, "WINDOW", 50)
    await add(database)
    assert [one.row_id for one in await least_sure(*database, 3)] == ["399", "398", "397"]
    # More than there are in the window: it is widened, until there is nothing else.
    assert len(await least_sure(*database, 100)) == 100
    assert len(await least_sure(*database, 1000)) == ROWS


async def test_the_counts_of_a_large_queue(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(review, "WINDOW", 100)
    await add(database)
    await add(database, "human", 20, "human:anna")
    counts = await review_counts(*database)
    assert (counts.labeled, counts.waiting) == (20, 380)
    # All of the newest hundred are below 0.6: so are all, it says.
    assert counts.unsure == counts.waiting
    assert len([one async for one in gold_labels(*database)]) == 20


async def test_texts_are_looked_for_from_the_newest_row_on(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(database)
    await add(database, "v2", 100)
    texts = ["text 0", "text 77", "text 399", "nothing"]
    whole = await labels_of_texts(*database, "v1", texts)
    assert {text: one.label for text, one in whole.items()} == {
        "text 0": "0",
        "text 77": "7",
        "text 399": "9",
    }
    monkeypatch.setattr(given_labels, "_AT_ONCE", 50)
    assert await labels_of_texts(*database, "v1", texts) == whole
    assert set(await labels_of_texts(*database, "v2", texts)) == {"text 0"}
    assert await labels_of_texts(*database, "v1", []) == {}


async def test_texts_are_looked_for_in_so_many_labels_at_once_whatever_their_times(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row of long ago and one of the far future do not leave all others together."""
    client, settings = database
    await add(database)
    table = f"{settings.result_database}.logs_labeled"
    for at in ("1925-01-01", "2290-01-01"):
        await client.command(
            f"INSERT INTO {table} SELECT * REPLACE (toDateTime64('{at}', 6, 'UTC') AS created_at) "
            f"FROM {table} WHERE row_id = '77' LIMIT 1"
        )
    monkeypatch.setattr(given_labels, "_AT_ONCE", 50)
    spans = list(await given_labels._spans(client, settings))
    assert all(begin == end for (begin, _), (_, end) in pairwise(spans))
    micros = "toUnixTimestamp64Micro(created_at)"
    counts = [
        (await client.rows(f"SELECT count() FROM {table} WHERE {micros} >= {begin} AND {micros} < {end}"))[0]
        for begin, end in spans
    ]
    assert sum(int(count) for (count,) in counts) == ROWS + 2
    assert max(int(count) for (count,) in counts) <= 50
    found = await labels_of_texts(*database, "v1", ["text 77", "text 0", "text 399"])
    assert (len(found), found["text 77"].created_at.year) == (3, 2290)
    first = await first_of_texts(*database, ["text 77", "text 0", "text 399"])
    assert (len(first), first["text 77"].created_at.year) == (3, 1925)


async def test_the_picture_of_a_busy_day_is_scaled(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "_SAMPLE", 80)
    await add(database)
    found = await label_picture(*database, int(FIRST.replace(year=2027).timestamp()) * 1_000_000)
    assert found is not None
    total = sum(recent for _, recent, _ in found.labels)
    assert abs(total - ROWS) < 20  # rounded, for each label
    assert abs(sum(found.confidence) - ROWS) < 40
    assert len({recent for _, recent, _ in found.labels}) > 1, "it is no sample"


async def test_versions_of_many_rows_are_compared_by_a_sample(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(database)
    await add(database, "v2", 2)
    whole = await diff_versions(*database, "v1", "v2", changed=0)
    assert (whole.sample, whole.rows, whole.only_a) == (None, ROWS // 2, ROWS // 2)
    monkeypatch.setattr(version_diff, "_SAMPLE", 120)
    part = await diff_versions(*database, "v1", "v2", changed=0)
    assert part.sample is not None
    assert 0 < part.rows < whole.rows
    assert abs(part.rows / whole.rows - part.sample) < 0.2
    assert part.agreement == whole.agreement == 1.0


async def test_the_rows_of_a_replay_are_estimated(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(database)
    client, settings = database
    asked: list[str] = []
    ask = client.rows

    async def rows(sql: str, *given: object) -> list[tuple[object, ...]]:
        asked.append(sql)
        return await ask(sql, *given)  # type: ignore[arg-type]

    async def count(condition: str, until: int | None = None) -> int:
        where = [Condition.parse(condition)]
        return await LabelledRows(client, settings, since=None, until=until, where=where).count()

    assert (await count("confidence<0.5"), await count("label=3")) == (199, 40)
    monkeypatch.setattr(relabel_rows, "_COUNTED", 200)
    monkeypatch.setattr(relabel_rows, "_SPANS", 10)
    monkeypatch.setattr(client, "rows", rows)
    assert await count("confidence<0.5") == pytest.approx(200, rel=0.1)
    # Whoever reads the view as a whole pays for all of history.
    assert all(" OR " in sql for sql in asked if "logs_labeled_current" in sql)
    until = int(FIRST.replace(hour=5).timestamp()) * 1_000_000
    assert await count("confidence<0.5", until) == pytest.approx(100, rel=0.1)
    # Of rows that are nearly all between two far away: how many labels there are.
    await client.command(
        f"INSERT INTO {settings.result_database}.logs_labeled (row_id, created_at, label_version)\n"
        "SELECT toString(number + 1000), toDateTime64(number * 7000000000, 6, 'UTC'), 'v1' FROM numbers(2)"
    )
    assert await count("confidence<0.5") == 402
