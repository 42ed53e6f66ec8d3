"""Labels of people in the tables: before all versions, the last one counts, one taken back does not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from connectors.clickhouse.queries.audit_log import read_audit, write_audit
from connectors.clickhouse.queries.draw import Audited
from connectors.clickhouse.queries.gold import human_answers, write_answers
from connectors.clickhouse.queries.label_versions import promote_version, register_version
from connectors.clickhouse.queries.overview import label_picture, letter_reasons, table_sizes
from connectors.clickhouse.queries.review import (
    current_of,
    frequent_labels,
    least_sure,
    review_counts,
)
from streams.ports.audit import AuditEntry
from streams.ports.lookups import Place
from streams.ports.review import ReviewAnswer
from streams.quality.gold import gold_labels
from tests.integration.connectors.clickhouse.engine import Database

AT = datetime(2026, 3, 1, tzinfo=UTC)
MICROS = 1_000_000


async def add(
    database: Database,
    *rows: tuple[str, str, str, float | None, int],
    model: str = "m",
    at: str = "2026-03-01",
    drawn: tuple[str | None, float | None] = (None, None),
) -> None:
    """Rows of (row_id, label_version, label, confidence, second of labelling)."""
    client, settings = database
    values = ", ".join(
        f"('{row}', 'text of {row}', '{at}', '{label}', '{version}', "
        f"{'NULL' if sure is None else sure}, '{model}', '2026-03-02 00:00:{second:02}', '{at}', "
        f"{'NULL' if drawn[0] is None else repr(drawn[0])}, {'NULL' if drawn[1] is None else drawn[1]}, "
        f"{second})"
        for row, version, label, sure, second in rows
    )
    await client.command(
        f"INSERT INTO {settings.result_database}.logs_labeled (row_id, text, created_at, label, "
        f"label_version, confidence, model, labeled_at, polled_at, drawn_by, draw_probability, _offset) "
        f"VALUES {values}"
    )


async def current(database: Database) -> dict[str, tuple[str, str]]:
    client, settings = database
    rows = await client.rows(
        "SELECT row_id, toString(label), toString(model) "
        f"FROM {settings.result_database}.logs_labeled_current"
    )
    assert len(rows) == len({row[0] for row in rows})
    return {row_id: (label, model) for row_id, label, model in rows}


async def test_what_a_person_said_last_goes_before_every_version(database: Database) -> None:
    client, settings = database
    await add(database, ("1", "v1", "a", 0.4, 1), ("2", "v1", "a", 0.3, 1), ("3", "v1", "a", None, 1))
    await add(database, ("1", "human", "b", None, 2), model="human:anna")
    await register_version(client, settings, version="v1", model="m")
    assert await current(database) == {"1": ("b", "human:anna"), "2": ("a", "m"), "3": ("a", "m")}
    # A correction goes before what was said first, in whatever order they are stored.
    await add(database, ("1", "human", "d", None, 9), model="human:boris")
    await add(database, ("1", "human", "c", None, 5), model="human:anna")
    await register_version(client, settings, version="v2", model="m2", status="trial")
    await add(database, ("1", "v2", "e", 0.9, 20), ("2", "v2", "e", 0.9, 20), model="m2")
    await promote_version(client, settings, "v2")
    assert await current(database) == {"1": ("d", "human:boris"), "2": ("e", "m2"), "3": ("a", "m")}
    assert [one.label async for one in gold_labels(client, settings)] == ["d"]


async def test_the_queue_has_what_no_person_labelled_the_least_sure_first(database: Database) -> None:
    client, settings = database
    await register_version(client, settings, version="v1", model="m")
    await add(
        database,
        ("1", "v1", "a", 0.4, 1),
        ("2", "v1", "a", 0.3, 1),
        ("3", "v1", "b", None, 1),
        ("4", "v1", "a", 0.9, 1),
    )
    assert [place.row_id for place in await least_sure(client, settings, 10)] == ["2", "1", "4", "3"]
    await add(database, ("2", "human", "b", None, 2), model="human:anna")
    assert [place.row_id for place in await least_sure(client, settings, 2)] == ["1", "4"]
    counts = await review_counts(client, settings)
    assert (counts.labeled, counts.waiting, counts.unsure) == (1, 3, 1)
    places = [Place(AT, "1"), Place(AT, "2"), Place(AT, "nobody")]
    assert {place.row_id for place in await current_of(client, settings, places)} == {"1", "2"}
    assert {place.row_id for place in await current_of(client, settings, places, by_models=True)} == {"1"}
    assert await frequent_labels(client, settings) == ["a", "b"]
    # Taken back: it has its former label, waits again, and is no gold.
    await add(database, ("2", "human", "a", 0.3, 3), model="human:anna:undo")
    assert (await current(database))["2"] == ("a", "human:anna:undo")
    assert [place.row_id for place in await least_sure(client, settings, 1)] == ["2"]
    assert [one async for one in gold_labels(client, settings)] == []
    await add(database, ("2", "human", "c", None, 4), model="human:anna")
    (gold,) = [one async for one in gold_labels(client, settings)]
    assert (gold.row_id, gold.text, gold.label, gold.labeled_by) == ("2", "text of 2", "c", "anna")
    assert gold.created_at == AT


async def test_the_label_picture_is_of_the_newest_row_s_day_and_the_week_before(database: Database) -> None:
    client, settings = database
    now = int(datetime(2026, 4, 1, tzinfo=UTC).timestamp()) * MICROS
    assert await label_picture(client, settings, now) is None
    await add(
        database,
        ("1", "v1", "a", 0.99, 1),
        ("2", "v1", "b", 1.0, 1),
        ("3", "v1", "a", None, 1),
        at="2026-03-10 12:00:00",
    )
    await add(database, ("4", "v1", "a", 0.02, 1), at="2026-03-09 11:59:59")
    await add(database, ("5", "v1", "b", 0.5, 1), at="2026-03-01 12:00:00")  # before that week
    found = await label_picture(client, settings, now)
    assert found is not None
    assert found.until == int(datetime(2026, 3, 10, 12, tzinfo=UTC).timestamp()) * MICROS
    assert list(found.labels) == [("a", 2, 1), ("b", 1, 0)]
    assert list(found.confidence) == [0] * 19 + [2]
    assert found.decided == {"llm": 3}
    assert await table_sizes(client, settings) == {"logs_labeled": 5, "logs_augmented": 0, "dead_letters": 0}
    assert await letter_reasons(client, settings) == []


async def test_the_audit_is_read_as_it_was_written_newest_first(database: Database) -> None:
    client, settings = database
    entries = [
        AuditEntry(
            at=AT.replace(minute=minute, microsecond=minute),
            who="anna",
            action="letter-retry",
            target="<b>'\"\\\n",
            detail="ж" * 1000,
        )
        for minute in range(3)
    ]
    await write_audit(client, settings, entries)
    assert await read_audit(client, settings, 2) == [entries[2], entries[1]]


async def answers_of(database: Database, **bounds: datetime) -> list[tuple[str, str, str | None, str]]:
    client, settings = database
    found = [one async for one in human_answers(client, settings, **bounds)]
    return [(one.row_id, one.answer, one.label, one.who) for one in found]


async def test_each_person_s_last_answer_stands_beside_the_others(database: Database) -> None:
    client, settings = database
    await register_version(client, settings, version="v1", model="m")
    await add(database, *((row, "v1", "a", 0.4, 1) for row in "123456"))

    def told(row: str, answer: str, who: str, second: int, drawn_by: str = "audit") -> ReviewAnswer:
        return ReviewAnswer(
            row_id=row,
            created_at=AT,
            text=f"text of {row}",
            answer=answer,
            who=who,
            answered_at=datetime(2026, 3, 2, 0, 0, second, tzinfo=UTC),
            drawn_by=drawn_by,
            draw_probability=0.25,
        )

    # One person's undo takes nothing from another's label.
    await add(database, ("1", "human", "b", None, 2), model="human:anna", drawn=("audit", 0.25))
    await add(database, ("1", "human", "c", None, 3), model="human:boris", drawn=("audit", 0.25))
    await add(database, ("1", "human", "b", None, 4), model="human:boris:undo", drawn=("audit", 0.25))
    # A label, taken back, then no label; and an answer that was taken back.
    await add(database, ("2", "human", "b", None, 2), model="human:anna")
    await add(database, ("2", "human", "a", 0.4, 3), model="human:anna:undo")
    await write_answers(
        client,
        settings,
        [
            told("2", "no-label", "anna", 4),
            told("3", "not-sure", "boris", 4),
            told("4", "not-sure", "anna", 4),
            told("4", "taken-back", "anna", 5),
        ],
    )
    # Somebody who answered in the audit may also settle what others answered.
    await add(database, ("5", "human", "b", None, 2), model="human:anna", drawn=("audit", 0.25))
    await add(database, ("5", "human", "c", None, 3), model="human:boris", drawn=("audit", 0.25))
    await add(database, ("5", "human", "c", None, 4), model="human:anna", drawn=("disagreements", 0.25))
    await add(database, ("5", "human", "d", None, 9), model="human:vera", drawn=("unsure", None))
    assert await answers_of(database) == [
        ("1", "label", "b", "anna"),
        ("2", "no-label", None, "anna"),
        ("3", "not-sure", None, "boris"),
        ("5", "label", "b", "anna"),
        ("5", "label", "c", "boris"),
        ("5", "label", "c", "anna"),
        ("5", "label", "d", "vera"),
    ]
    assert await answers_of(database, since=AT, until=AT) == []
    assert len(await answers_of(database, since=AT)) == 7
    first, *_ = [one async for one in human_answers(client, settings)]
    assert (first.text, first.created_at, first.source_domain) == ("text of 1", AT, None)
    assert (first.drawn_by, first.draw_probability) == ("audit", 0.25)
    gold = [(one.row_id, one.label, one.labeled_by) async for one in gold_labels(client, settings)]
    assert gold == [("1", "b", "anna"), ("2", "no-label", "anna"), ("5", "c", "anna")]
    # A row about which any answer stands is asked about no more.
    waiting = await least_sure(client, settings, 10)
    assert sorted(one.row_id for one in waiting) == ["4", "6"]


async def test_an_undo_in_one_queue_leaves_the_answer_of_another(database: Database) -> None:
    client, settings = database
    await register_version(client, settings, version="v1", model="m")
    await add(database, ("1", "v1", "a", 0.4, 1), ("2", "v1", "a", 0.4, 1))
    await add(database, ("1", "human", "b", None, 2), model="human:anna")
    await add(database, ("1", "human", "c", None, 3), model="human:anna", drawn=("audit", 0.25))
    await add(database, ("1", "human", "b", None, 4), model="human:anna:undo", drawn=("audit", 0.25))
    assert await answers_of(database) == [("1", "label", "b", "anna")]
    assert [one.row_id for one in await least_sure(client, settings, 10)] == ["2"]


async def test_each_row_without_an_answer_is_in_a_queue(database: Database) -> None:
    client, settings = database
    await register_version(client, settings, version="v1", model="m")
    await add(database, ("1", "v1", "a", 0.4, 1), ("upload:7:1", "v1", "a", 0.5, 1))
    await add(database, ("old", "v1", "a", 0.6, 1), at="2026-02-01")

    async def rows(share: float, **bounds: float) -> list[str]:
        monday = AT if bounds else AT + timedelta(days=7)
        found = await least_sure(client, settings, 10, Audited("s", share, AT, monday, bounds))
        return [one.row_id for one in found]

    # The audit asks about all others, or will when the week is over.
    assert await rows(1.0) == await rows(0.0, a=1.0) == ["upload:7:1", "old"]
    assert await rows(0.0) == await rows(0.0, b=1.0) == ["1", "upload:7:1", "old"]
