"""What an erasure leaves in the result tables, and that nothing comes back, on a real engine."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.erasure.erased_list import ErasedRows, add_rows, begin_erasure, end_erasure
from connectors.clickhouse.erasure.person import Found, Person, other_generations
from connectors.clickhouse.erasure.tombstones import replace_rows
from connectors.clickhouse.queries.gold import write_answers
from connectors.clickhouse.queries.review import review_counts
from connectors.clickhouse.schema.tables import ANSWERS, AUGMENTED, DEAD_LETTERS, LABELED
from streams.core.codec import encode, encode_dead_letter
from streams.core.messages import DeadLetter, HumanLabel
from streams.core.times import micros_of
from streams.ports.review import ReviewAnswer
from tests.integration.connectors.clickhouse.engine import Database, run_until_stored, sink_for
from tests.unit.connectors.clickhouse.sink.fakes import (
    A0,
    D0,
    L0,
    START,
    TOPICS,
    FakeInput,
    FakeKafka,
    augmented,
    labeled,
)

_TABLES = (LABELED, AUGMENTED, DEAD_LETTERS, ANSWERS)
_PLACES = [L0, A0, D0]
_HERS = (1, 4, 7)


def _user(number: int) -> str:
    return "anna" if number in _HERS else f"u{number % 3}"


def _label(number: int) -> str:
    return ("login", "payment")[number % 2]


def _topics() -> FakeKafka:
    """Ten rows of four users under two versions, with variants, people's labels and dead letters."""
    kafka = FakeKafka()
    # The newest of its version, and not the last on the topic.
    late = labeled(4, user_id="anna", label="late", labeled_at=START + timedelta(hours=1))
    kafka.publish(late, TOPICS.labeled)
    for number in range(10):
        given = {"user_id": _user(number), "label": _label(number)}
        kafka.publish(labeled(number, **given), TOPICS.labeled)
        kafka.publish(augmented(number, **given), TOPICS.augmented)
        kafka.publish(labeled(number, **given, label_version="v2"), TOPICS.labeled)
        if number % 3 == 1:
            human = labeled(number).model_dump() | given
            human |= {"label_version": "human", "model": "human:vera", "label": "other", "confidence": None}
            kafka.publish(HumanLabel(**human, drawn_by="audit", draw_probability=0.1), TOPICS.labeled)
        letter = DeadLetter(
            row_id=str(number),
            step="augment",
            reason="invalid-answer",
            error=f"row {number}",
            failed_at=START,
            payload=encode(labeled(number, **given)),
        )
        value, headers = encode_dead_letter(letter)
        kafka.put(TOPICS.dead_letter, 0, value, headers)
    return kafka


async def _counts(client: ClickHouseClient, database: str) -> dict[str, Any]:
    """All that anybody counts, by label and day."""
    asked = {
        "labels": f"label_version, toDate(created_at), label FROM {database}.{LABELED}",
        "current": f"toDate(created_at), label FROM {database}.logs_labeled_current",
        "variants": f"toDate(created_at), label FROM {database}.{AUGMENTED}",
        "letters": f"step, reason FROM {database}.{DEAD_LETTERS}",
        "answers": f"answer, who FROM {database}.{ANSWERS}",
        "confidences": f"confidence FROM {database}.{LABELED}",
        "newest": f"toDate(created_at), argMax(label, (labeled_at, _offset)) FROM {database}.{LABELED}\n"
        "WHERE label_version = 'v1' GROUP BY row_id, created_at",
    }
    return {name: Counter(await client.rows(f"SELECT {what}")) for name, what in asked.items()}


async def _others(client: ClickHouseClient, database: str) -> list[list[tuple[Any, ...]]]:
    """Every line that is neither hers nor left of one of hers."""
    hers = ", ".join(f"'{number}'" for number in _HERS)
    return [
        sorted(
            await client.rows(
                f"SELECT toString(tuple(*)) FROM {database}.{table}\n"
                f"WHERE row_id NOT IN ({hers}) AND NOT startsWith(row_id, 'erased:')"
            )
        )
        for table in _TABLES
    ]


async def _everything(client: ClickHouseClient, database: str) -> str:
    lines = []
    for table in (*_TABLES, "erasures"):
        rows = await client.rows(f"SELECT toString(tuple(*)) FROM {database}.{table}")
        lines += [str(line) for (line,) in rows]
    return "\n".join(lines)


async def _erase(database: Database, person: Person) -> None:
    client, settings = database
    name = settings.result_database
    rows = await person.rows(client, name)
    until = max(micros_of(START), *(row.micros for row in rows))
    nonce = await begin_erasure(client, settings, person.kind, person.ids, until)
    letters, _ = await person.letters(client, name, rows)
    await replace_rows(client, name, DEAD_LETTERS, letters, nonce)
    found = Found([row.micros for row in rows], [row.hash for row in rows], len(rows))
    for table in (ANSWERS, AUGMENTED, LABELED):
        await replace_rows(client, name, table, found, nonce)
    await end_erasure(client, settings, person.kind, person.ids)


async def _stored(database: Database) -> FakeKafka:
    client, settings = database
    kafka = _topics()
    await run_until_stored(sink_for(client, settings, kafka), FakeInput(kafka, _PLACES, {}))
    answers = [
        ReviewAnswer(
            row_id=str(number),
            created_at=labeled(number).created_at,
            text=labeled(number).text,
            answer="not-sure",
            who="vera",
            answered_at=START,
        )
        for number in range(10)
    ]
    await write_answers(client, settings, answers)
    return kafka


async def test_a_user_is_gone_and_all_counts_stay(database: Database) -> None:
    client, settings = database
    name = settings.result_database
    kafka = await _stored(database)
    before, others = await _counts(client, name), await _others(client, name)
    reviewed = await review_counts(client, settings)
    await _erase(database, Person("user", ["anna"]))
    assert await _counts(client, name) == before
    assert await _others(client, name) == others
    assert await review_counts(client, settings) == reviewed
    left = await _everything(client, name)
    assert "anna" not in left
    times = await client.rows(
        f"SELECT row_id, created_at FROM {name}.{LABELED} WHERE startsWith(row_id, 'erased:')\n"
        f"UNION DISTINCT SELECT row_id, created_at FROM {name}.{ANSWERS} WHERE startsWith(row_id, 'erased:')"
    )
    # Each has one time, and they are spread over the day.
    assert len({row_id for row_id, _ in times}) == len({at for _, at in times}) == len(times) == len(_HERS)
    assert not [number for number in _HERS if f"ошибка {number}'" in left or f"row {number}'" in left]
    # No line has the nonce, nor does the time at which tombstones were stored tell of the erasure.
    assert await client.rows(f"SELECT count() FROM {name}.erasures WHERE nonce != ''") == [(0,)]
    for table in (LABELED, AUGMENTED, DEAD_LETTERS):
        moments = await client.rows(
            f"SELECT countIf(_stored_at != toStartOfDay(_stored_at)), count() FROM {name}.{table}\n"
            "WHERE startsWith(row_id, 'erased:')"
        )
        assert moments[0][0] == 0 < moments[0][1]
    assert await Person("user", ["anna"]).rows(client, name) == []
    # The whole of the topics again, with a group that was rewound: nothing is stored.
    again = sink_for(client, settings, kafka, erased=ErasedRows(client, settings).now)
    await run_until_stored(again, FakeInput(kafka, _PLACES, {}))
    assert again.counts["inserts"] == 0
    assert await _counts(client, name) == before


async def test_what_was_under_way_does_not_come_and_what_is_new_does(database: Database) -> None:
    client, settings = database
    name = settings.result_database
    kafka = await _stored(database)
    await _erase(database, Person("user", ["anna"]))
    before = await _counts(client, name)
    # Labelled again under another version, late variants and a dead letter, and a row of today.
    kafka.publish(labeled(4, user_id="anna", label_version="v3"), TOPICS.labeled)
    kafka.publish(augmented(4, user_id="anna", label_version="v3"), TOPICS.augmented)
    letter = DeadLetter(
        step="label", reason="refusal", failed_at=START, payload=encode(labeled(4, user_id="anna"))
    )
    value, headers = encode_dead_letter(letter)
    kafka.put(TOPICS.dead_letter, 0, value, headers)
    later = START + timedelta(days=1)
    kafka.publish(labeled(77, user_id="anna", created_at=later, label_version="v3"), TOPICS.labeled)
    sink = sink_for(client, settings, kafka, erased=ErasedRows(client, settings).now)
    await run_until_stored(sink, FakeInput(kafka, _PLACES, {}))
    assert sink.counts["erased"] == 3
    after = await _counts(client, name)
    assert after["variants"] == before["variants"]
    assert after["letters"] == before["letters"]
    assert after["labels"] - before["labels"] == {("v3", later.date(), "login"): 1}


async def test_one_that_was_cut_off_goes_on_where_it_was(database: Database) -> None:
    client, settings = database
    name = settings.result_database
    await _stored(database)
    before = await _counts(client, name)
    person = Person("row", ["4"])
    rows = await person.rows(client, name)
    # Of the user; then the row alone is asked for, which has a tombstone already.
    nonce = await begin_erasure(client, settings, "user", ["anna"], rows[0].micros)
    condition = "row_id = '4' AND label_version = 'v1' LIMIT 1"
    await client.command(f"CREATE TABLE {name}.kept AS {name}.{LABELED}")
    await client.command(f"INSERT INTO {name}.kept SELECT * FROM {name}.{LABELED} WHERE {condition}")
    found = Found([rows[0].micros], [rows[0].hash], 1)
    await replace_rows(client, name, LABELED, found, nonce)
    # As if the process had ended after the tombstones and before the deletion was done.
    await client.command(f"INSERT INTO {name}.{LABELED} SELECT * FROM {name}.kept")
    assert (await _counts(client, name))["labels"] != before["labels"]
    await _erase(database, person)
    assert await _counts(client, name) == before


async def test_what_else_may_name_a_user_is_found(database: Database) -> None:
    client, settings = database
    name = settings.result_database
    kafka = FakeKafka()
    for number, user in ((1, f"p3:{'0' * 32}"), (2, "p3:plain"), (3, f"p1:{'f' * 32}"), (4, None)):
        kafka.publish(labeled(number, user_id=user), TOPICS.labeled)
    kafka.publish(labeled(5).model_copy(update={"row_id": "4~ab"}), TOPICS.labeled)
    for number, user in enumerate(("anna", "annabel")):
        letter = DeadLetter(
            step="label",
            reason="undecodable",
            failed_at=START,
            payload=encode(labeled(number, user_id=user))[:-9],
        )
        value, headers = encode_dead_letter(letter)
        kafka.put(TOPICS.dead_letter, 0, value, headers)
    await run_until_stored(sink_for(client, settings, kafka), FakeInput(kafka, [L0, D0], {}))
    assert await other_generations(client, name, {1}) == [3]
    assert (await Person("user", ["anna"]).letters(client, name, []))[0].rows == 1
    assert await Person("row", ["4"]).namesakes(client, name) == ["4~ab"]
    far = datetime(2099, 1, 1, tzinfo=UTC)
    await begin_erasure(client, settings, "user", ["anna"], micros_of(START))
    await add_rows(client, settings, [("7", micros_of(far)), ("8", micros_of(far) + 1)])
    erased = await ErasedRows(client, settings).now()
    assert erased.newest == micros_of(START)
    assert erased.covers("7", "anna", micros_of(far))
    assert not erased.covers("7", "anna", micros_of(far) + 1)
