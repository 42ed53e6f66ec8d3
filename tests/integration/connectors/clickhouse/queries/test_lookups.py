"""Rows and labels looked up in a real engine: paging, the current label, and values that would be SQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from connectors.api.views import LabelsAnswer, row_answer
from connectors.clickhouse.queries.given_labels import labels_at
from connectors.clickhouse.queries.label_versions import promote_version, register_version
from connectors.clickhouse.queries.lookups import row_history, search_labels
from connectors.clickhouse.queries.review import least_sure
from connectors.clickhouse.schema.columns import columns_of
from streams.core.errors import ConfigurationError
from streams.core.messages import Augmented, Labeled
from streams.ports.lookups import LabelPage, LabelQuery, Place
from tests.integration.connectors.clickhouse.engine import Database, fresh_database

START = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
HOSTILE = (
    "' OR 1=1 --",
    "'; DROP TABLE logs_labeled; --",
    "\\",
    "\\'",
    "\\N",
    "NULL",
    "a\tb",
    "a\nb",
    "a\rb",
    "a\x00b",
    "`x`",
    '"',
    "{row_id:String}",
    "%(x)s",
    "%",
    "_",
    "\u2028",
    "💥",
    "\u202eабв",
    "]",
    "['a'",
    "/* */",
)


def row(number: int, **changes: Any) -> Labeled:
    """The row of that number: two share a moment, labels and confidences take turns."""
    fields: dict[str, Any] = {
        "row_id": str(number),
        "text": f"Где мой заказ №{number}",
        "created_at": START + timedelta(minutes=number // 2, microseconds=7),
        "polled_at": START,
        "label": ("delivery", "refund", "other")[number % 3],
        "confidence": None if number % 10 == 9 else number % 10 / 10,
        "alternatives": [{"label": "other", "confidence": 0.25}],
        "label_version": "v1",
        "model": "m",
        "labeled_at": START + timedelta(hours=1),
    }
    return Labeled(**(fields | changes))


async def store(database: Database, *rows: Labeled) -> None:
    """Put rows into their table as they are."""
    client, settings = database
    table = "logs_augmented" if isinstance(rows[0], Augmented) else "logs_labeled"
    names = [column.name for column in columns_of(type(rows[0]))]
    values = [[_value(getattr(one, name)) for one in rows] for name in names]
    places = [[START.strftime("t")] * len(rows), [0] * len(rows), list(range(len(rows)))]
    await client.insert(
        table,
        [*names, "_topic", "_partition", "_offset"],
        [*values, *places],
        database=settings.result_database,
    )


def _value(value: Any) -> Any:
    if isinstance(value, list):
        return [tuple(one.model_dump().values()) if hasattr(one, "model_dump") else one for one in value]
    return value


async def walk(database: Database, query: LabelQuery, limit: int) -> tuple[list[Labeled], list[LabelPage]]:
    """All pages."""
    pages: list[LabelPage] = []
    after: Place | None = None
    while True:
        pages.append(await search_labels(*database, query, after, limit))
        after = pages[-1].next
        if after is None:
            return [one for page in pages for one in page.labels], pages


async def test_pages_hold_every_row_once_and_in_order(database: Database) -> None:
    rows = [row(number) for number in range(20)]
    await store(database, *rows)
    await store(database, *rows[5:9])  # stored twice, not merged yet
    for limit in (1, 3, 7, 100):
        found, pages = await walk(database, LabelQuery(), limit)
        assert found == sorted(rows, key=lambda one: (one.created_at, one.row_id), reverse=True), limit
        assert all(len(page.labels) <= limit for page in pages)


FILTERS: list[tuple[LabelQuery, Sequence[int]]] = [
    (LabelQuery(text="где МОЙ"), range(20)),
    (LabelQuery(text="№1"), [1, *range(10, 20)]),
    (LabelQuery(label="refund"), [1, 4, 7, 10, 13, 16, 19]),
    (LabelQuery(min_confidence=0.8), [8, 18]),
    (LabelQuery(max_confidence=0.1), [0, 1, 10, 11]),
    (LabelQuery(min_confidence=0, max_confidence=1), [n for n in range(20) if n % 10 != 9]),
    (LabelQuery(since=START + timedelta(minutes=9)), [18, 19]),
    (LabelQuery(until=START + timedelta(minutes=1)), [0, 1]),
    (LabelQuery(until=START + timedelta(microseconds=7)), []),
    (LabelQuery(since=datetime(1, 1, 2, tzinfo=UTC)), range(20)),
    (LabelQuery(since=datetime(9999, 12, 31, tzinfo=UTC)), []),
    (LabelQuery(label="delivery", min_confidence=0.5, text="заказ"), [6, 15, 18]),
    (LabelQuery(version="v9"), []),
    (LabelQuery(version="v1", label="other", until=START + timedelta(minutes=3)), [2, 5]),
]


async def test_filters(database: Database) -> None:
    await store(database, *(row(number) for number in range(20)))
    for query, expected in FILTERS:
        found, _ = await walk(database, query, 4)
        assert sorted(int(one.row_id) for one in found) == list(expected), query


async def test_a_filter_is_about_the_current_label_and_a_version_about_its_own(database: Database) -> None:
    client, settings = database
    await register_version(client, settings, version="v1", model="m")
    await store(database, *(row(number) for number in range(30)))
    await store(database, *(row(n, label="login", label_version="v2") for n in range(0, 30, 2)))
    assert (await walk(database, LabelQuery(label="login"), 3))[0] == []
    await register_version(client, settings, version="v2", model="m", status="trial")
    # Nothing that fits is current, and there is much of it: pages are empty, and come to an end.
    found, pages = await walk(database, LabelQuery(label="login"), 1)
    assert (found, pages[-1].next) == ([], None)
    trial, _ = await walk(database, LabelQuery(label="login", version="v2"), 3)
    assert len(trial) == 15
    await promote_version(client, settings, "v2")
    found, _ = await walk(database, LabelQuery(label="login"), 3)
    assert [one.label_version for one in found] == ["v2"] * 15
    others, _ = await walk(database, LabelQuery(), 7)
    assert sorted(int(one.row_id) for one in others) == list(range(30))
    assert {one.label_version for one in others if int(one.row_id) % 2} == {"v1"}


async def test_a_row_has_its_whole_history(database: Database) -> None:
    client, settings = database
    await register_version(client, settings, version="v1", model="m")
    await register_version(client, settings, version="v2", model="m")
    await promote_version(client, settings, "v2")
    older = row(1, created_at=START - timedelta(days=3), text="другой с тем же id")
    await store(database, row(1), row(2), older)
    await store(database, row(1, label="login", label_version="v2", labeled_at=START + timedelta(days=1)))
    variants = Augmented(
        **row(1).model_dump(),
        variants=["раз", "два"],
        rejected=[{"text": "три", "reason": "copy"}],
        augment_model="q",
        augmented_at=START,
    )
    await store(database, variants)
    found = await row_history(client, settings, "1")
    assert found is not None
    assert [(one.label_version, one.text) for one in found.labels] == [
        ("v2", row(1).text),
        ("v1", row(1).text),
        ("v1", older.text),
    ]
    assert found.current == {(row(1).created_at, "v2"), (older.created_at, "v1")}
    assert found.variants == [variants]
    assert found.dead_letters == []
    assert await row_history(client, settings, "nobody") is None


async def test_what_would_be_sql_is_text(database: Database) -> None:
    client, settings = database
    await store(database, *(row(n, row_id=evil, text=evil, label=evil) for n, evil in enumerate(HOSTILE)))
    for evil in HOSTILE:
        found = await row_history(client, settings, evil)
        assert found is not None
        assert [one.text for one in found.labels] == [evil]
        for query in (LabelQuery(label=evil), LabelQuery(text=evil), LabelQuery(label=evil, version="v1")):
            labels, _ = await walk(database, query, 8)
            assert evil in [one.row_id for one in labels]
            assert query.label is None or len(labels) == 1
        assert (await walk(database, LabelQuery(version=evil), 8))[0] == []
        # After a row with such an id comes what would come after it.
        page = await search_labels(client, settings, LabelQuery(), Place(labels[0].created_at, evil), 1)
        assert page.labels == [] or page.labels[0].created_at <= labels[0].created_at
    assert (await client.rows(f"SELECT count() FROM {settings.result_database}.logs_labeled"))[0][0] == 22


@settings(
    max_examples=settings().max_examples // 2,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(value=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
async def test_any_text_may_be_asked_for(database: Database, value: str) -> None:
    client, settings = database
    assert await row_history(client, settings, value) is None
    query = LabelQuery(text=value, label=value, version=value)
    assert (await search_labels(client, settings, query, Place(START, value), 3)).labels == []


async def test_what_other_tools_wrote_is_shown_as_it_is(database: Database) -> None:
    client, config = database
    await client.command(
        f"INSERT INTO {config.result_database}.logs_labeled (row_id, text, created_at, label, "
        "label_version, model, labeled_at, confidence, confidence_raw, alternatives, draw_probability)\n"
        "SELECT *, 'v1', 'm', now64(6), 1.5, nan, [('b', -1), ('c', 0.2), ('d', nan)], 7 FROM VALUES(\n"
        "    'row_id String, text String, created_at DateTime64(6), label String',\n"
        "    ('1', '', '2026-01-31 09:30:00', 'a'), ('2', unhex('FF41'), '2026-01-31 09:31:00', ''),\n"
        "    ('', 'x', '2026-01-31 09:32:00', 'a'), (unhex('FE'), 'y', '2026-01-31 09:33:00', 'a'))"
    )
    await client.command(
        f"INSERT INTO {config.result_database}.dead_letters (row_id, step, reason, failed_at, attempts)\n"
        "VALUES ('1', '', '', '2026-01-31 09:30:00', -1)"
    )
    found, _ = await walk(database, LabelQuery(), 1)
    # Not the rows whose id nobody can ask for.
    assert [(one.row_id, one.label) for one in found] == [("2", ""), ("1", "a")]
    assert {(one.confidence, one.confidence_raw) for one in found} == {(None, None)}
    assert [one.confidence for one in found[-1].alternatives] == [0.2]
    history = await row_history(client, config, "1")
    assert history is not None
    assert (history.labels[0].text, history.dead_letters[0].attempts) == ("", -1)
    for asked in (LabelsAnswer(labels=found, next=None), row_answer("1", history)):
        TypeAdapter(type(asked)).validate_python(asked, from_attributes=True)
        orjson.loads(asked.model_dump_json())
    assert "" not in {place.row_id for place in await least_sure(client, config, 10)}
    places = [Place(one.created_at, one.row_id) for one in found]
    given = await labels_at(client, config, "v1", places)
    assert {(one.confidence, one.confidence_raw, one.others) for one in given.values()} == {
        (None, None, (0.2,))
    }
    alone = await labels_at(client, config, "v1", places, with_others=False)
    assert alone == {place: one._replace(others=()) for place, one in given.items()}


async def test_tables_that_are_missing_are_a_matter_of_settings(address: tuple[str, int]) -> None:
    async with fresh_database(address) as (client, settings):
        other = settings.model_copy(update={"clickhouse_result_database": "nowhere"})
        with pytest.raises(ConfigurationError):
            await row_history(client, other, "1")
        with pytest.raises(ConfigurationError):
            await search_labels(client, other, LabelQuery(), None, 5)
