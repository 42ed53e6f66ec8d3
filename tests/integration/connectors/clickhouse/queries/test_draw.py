"""The draw in the real engine is that of Python, for any identity."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connectors.clickhouse.queries.draw import KnownDraws, lowest_draws
from connectors.clickhouse.queries.draw_by_label import LabelDraws, lowest_draws_by_label
from connectors.clickhouse.queries.label_versions import register_version
from streams.ports.lookups import Place
from streams.quality.audit import Draw, draw_number, draw_rows, salt_of
from tests.integration.connectors.clickhouse.engine import Database

MONDAY = datetime(2026, 3, 9, tzinfo=UTC)
BEFORE = MONDAY - timedelta(days=7)


async def fill(database: Database, *, rows: int, first: int = 0, version: str = "v1", at: datetime) -> None:
    client, settings = database
    await client.command(
        f"INSERT INTO {settings.result_database}.logs_labeled "
        "(row_id, text, created_at, label, label_version, model, labeled_at, polled_at, _offset)\n"
        "SELECT toString(number), 'text', "
        "toDateTime64({at:String}, 6, 'UTC') + toIntervalMicrosecond(number), if(number % 100 = 0, "
        "'rare', 'common'), {version:String}, 'm', now64(6), now64(6), number\n"
        "FROM numbers({first:UInt64}, {rows:UInt64})",
        {"at": at.strftime("%Y-%m-%d %H:%M:%S"), "version": version, "first": first, "rows": rows},
    )


async def test_the_number_of_a_row_is_that_of_python(database: Database) -> None:
    client, settings = database
    odd = ["1", "ключ", "upload", "a'b\\c\t\n", "🙂" * 20, "0" * 200]
    times = ["1925-01-01 00:00:00.000001", "1970-01-01 00:00:00", "2026-03-01 12:34:56.789012"]
    places = [Place(datetime.fromisoformat(at).replace(tzinfo=UTC), row_id) for at in times for row_id in odd]
    for number, (at, row_id) in enumerate(places):
        await client.command(
            f"INSERT INTO {settings.result_database}.logs_labeled "
            "(row_id, text, created_at, label, label_version, model, labeled_at, polled_at, _offset)\n"
            "VALUES ({id:String}, 't', {at:String}, 'a', 'v1', 'm', now64(6), now64(6), {n:Int64})",
            {"id": row_id, "at": at.strftime("%Y-%m-%d %H:%M:%S.%f"), "n": number},
        )
    found, total = await lowest_draws(
        client,
        settings,
        salt=salt_of(settings),
        share=1.0,
        since=datetime(1900, 1, 1, tzinfo=UTC),
        until=datetime(2100, 1, 1, tzinfo=UTC),
        version="v1",
        most=100,
        known=KnownDraws(),
    )
    assert total == len(places)
    assert {one.place: one.draw for one in found} == {
        place: draw_number(salt_of(settings), place) for place in places
    }


async def test_a_week_s_draw_is_the_same_after_a_replay_and_a_label(database: Database) -> None:
    client, settings = database
    settings = settings.model_copy(update={"review_audit_share": 0.02, "review_audit_per_label": 8})
    await register_version(client, settings, version="v1", model="m")
    await fill((client, settings), rows=2000, at=BEFORE)
    await fill((client, settings), rows=1000, first=2000, at=MONDAY)
    known = KnownDraws()
    drawn = await draw_rows(client, settings, MONDAY + timedelta(days=30), 1000, known)
    assert drawn is not None
    assert drawn.since == BEFORE
    salt = salt_of(settings)
    numbers = {
        Place(at + timedelta(microseconds=n), str(n)): draw_number(
            salt, Place(at + timedelta(microseconds=n), str(n))
        )
        for at, some in ((BEFORE, range(2000)), (MONDAY, range(2000, 3000)))
        for n in some
    }
    rare = sorted(
        number
        for place, number in numbers.items()
        if place.created_at < MONDAY and int(place.row_id) % 100 == 0
    )
    expected = {}
    for place, number in numbers.items():
        is_rare = int(place.row_id) % 100 == 0
        probability = rare[8] if is_rare and place.created_at < MONDAY else 0.02
        if number < probability and not (is_rare and place.created_at >= MONDAY):
            expected[place] = probability
    assert {one.place: one.probability for one in drawn.rows} == expected
    assert sum(probability > 0.02 for probability in expected.values()) == 8
    # Another version and people's labels are about the same rows; uploaded ones are not drawn.
    await fill((client, settings), rows=3000, version="human", at=BEFORE)
    await fill((client, settings), rows=2000, version="v0", at=BEFORE)
    await client.command(
        f"INSERT INTO {settings.result_database}.logs_labeled (row_id, text, created_at, label, "
        "label_version, model, labeled_at, polled_at, _offset) SELECT concat('upload:x:', "
        "toString(number)), 't', toDateTime64('2026-03-03', 6, 'UTC'), 'rare', 'v1', 'm', now64(6), "
        "now64(6), number "
        "FROM numbers(500)"
    )
    again = await draw_rows(client, settings, MONDAY + timedelta(days=30), 1000, known)
    assert again is not None
    assert again.rows == drawn.rows
    few = await draw_rows(client, settings, MONDAY + timedelta(days=30), 3)
    assert few is not None
    assert few.total == drawn.total > len(few.rows)


async def by_label(database: Database, *, share: float = 0.0, most: int = 1000) -> LabelDraws:
    client, settings = database
    return await lowest_draws_by_label(
        client,
        settings,
        salt="s",
        share=share,
        count=5,
        since=BEFORE,
        until=MONDAY,
        version="v1",
        most=most,
        known=KnownDraws(),
    )


async def test_labels_with_fewer_rows_are_drawn_whole(database: Database) -> None:
    await fill(database, rows=300, at=BEFORE)
    _, _, found = await by_label(database)
    assert {label: (len(some), above) for label, (some, above) in found.items()}["rare"] == (3, 1.0)
    common, above = found["common"]
    assert len(common) == 5
    assert all(one.draw < above for one in common)


async def test_a_row_that_was_labelled_again_has_its_newest_label(database: Database) -> None:
    client, settings = database
    await fill(database, rows=300, at=BEFORE)
    await client.command(
        f"INSERT INTO {settings.result_database}.logs_labeled\n"
        "SELECT * REPLACE ('rare' AS label, labeled_at - toIntervalDay(1) AS labeled_at)\n"
        f"FROM {settings.result_database}.logs_labeled WHERE _offset < 60"
    )
    lowest, total, found = await by_label(database, share=0.5, most=7)
    rare, above = found["rare"]
    assert ({one.place.row_id for one in rare}, above) == ({"0", "100", "200"}, 1.0)
    common = sorted(
        draw_number("s", Place(BEFORE + timedelta(microseconds=n), str(n))) for n in range(300) if n % 100
    )
    assert [one.draw for one in found["common"][0]] == common[:5]
    assert found["common"][1] == common[5]
    # Whatever their label is.
    numbers = sorted(draw_number("s", Place(BEFORE + timedelta(microseconds=n), str(n))) for n in range(300))
    assert [one.draw for one in lowest] == numbers[:7]
    assert total == sum(number < 0.5 for number in numbers)


async def test_days_that_have_not_changed_are_not_looked_through_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, settings = database
    settings = settings.model_copy(update={"review_audit_share": 0.1, "review_audit_per_label": 2})
    await register_version(client, settings, version="v1", model="m")
    hashed: list[str] = []
    ask = client.rows

    async def rows(
        sql: str, parameters: Mapping[str, Any] | None = None, **more: Any
    ) -> list[tuple[Any, ...]]:
        hashed.extend([sql] if "SHA256" in sql else [])
        return await ask(sql, parameters, **more)

    monkeypatch.setattr(client, "rows", rows)
    for day in range(-7, 3):
        await fill((client, settings), rows=300, first=day * 300 + 3000, at=MONDAY + timedelta(days=day))
    known = KnownDraws()

    async def look(known: KnownDraws | None = None) -> tuple[Draw | None, int]:
        hashed.clear()
        found = await draw_rows(client, settings, MONDAY + timedelta(days=30), 1000, known)
        return found, len(hashed)

    first, _ = await look(known)
    assert await look(known) == (first, 0)
    # A later row of the newest day, and an older one of the present week: two days.
    for day in (2, 0):
        await fill((client, settings), rows=100, first=9000, at=MONDAY + timedelta(days=day))
    drawn, asked = await look(known)
    assert asked == 2
    assert (drawn, True) == ((await look())[0], drawn != first)
    # One of the week before may change which rows are the lowest of their label: its whole week.
    await fill((client, settings), rows=100, first=9000, at=BEFORE)
    drawn, asked = await look(known)
    assert asked == 7
    assert drawn == (await look())[0]
