"""What people answered about rows: labels from `logs_labeled`, the other answers from `review_answers`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import probability, result_table, time_is, tuple_of
from connectors.clickhouse.queries.places import AT_PLACES, index_helps, place_batches
from connectors.clickhouse.schema.columns import columns_of
from connectors.clickhouse.schema.newest import newness
from connectors.clickhouse.schema.projections import (
    ANSWER_PARTS,
    ANSWERS_OF,
    HUMAN_AT,
    HUMAN_ROW,
    TAKEN_BACK,
)
from connectors.clickhouse.schema.tables import ANSWERS, LABELED
from streams.core.label_version import HUMAN, UNDONE
from streams.core.settings import Settings
from streams.core.times import micros_of, moment
from streams.ports.lookups import Place
from streams.ports.review import DISAGREEMENTS, LABEL, HumanAnswer, ReviewAnswer
from streams.ports.review import TAKEN_BACK as NO_ANSWER

_ANSWER_COLUMNS = tuple(column.name for column in columns_of(ReviewAnswer))
# Who gave a label: its model's name without what comes before and after.
_WHO = f"replaceRegexpOne(toString(model), '^{HUMAN}:(.*?)({UNDONE})?$', '\\\\1')"
# Rows whose answers are read at once: some megabytes.
_AT_ONCE = 20_000
_QUEUE = "ifNull(toString(drawn_by), '') AS queue"

# Rows with an answer without a label that stands.
ANSWERED = (
    "SELECT created_at, row_id FROM {} GROUP BY created_at, row_id, who, drawn_by "
    f"HAVING argMax(answer, answered_at) != '{NO_ANSWER}'"
)


class _Asked(NamedTuple):
    """Of these answers only the last one stands."""

    place: Place
    who: str
    queue: str


async def human_answers(
    client: ClickHouseClient,
    settings: Settings,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> AsyncIterator[HumanAnswer]:
    """All answers that stand, by row time and row id, those of one row by their time.

    ``since`` (inclusive) and ``until`` (exclusive): the row's time. Of each person's answers about a row the
    last one of each queue: what is taken back in one leaves those of the others.

    Raises:
        UnavailableError, ConfigurationError: as the client.
    """
    others = await _other_answers(client, settings, since, until)
    known = {*await human_rows(client, settings, since, until), *(asked.place for asked in others)}
    places = sorted(known)
    for start in range(0, len(places), _AT_ONCE):
        wanted = set(places[start : start + _AT_ONCE])
        found = {
            asked: answer
            for asked, answer in await _labels_between(client, settings, min(wanted), max(wanted))
            if asked.place in wanted
        }
        for asked, answer in others.items():
            if asked.place in wanted and (
                asked not in found or found[asked].answered_at <= answer.answered_at
            ):
                found[asked] = answer
        standing = [answer for answer in found.values() if str(answer.answer) != NO_ANSWER]
        standing.sort(key=lambda one: (one.created_at, one.row_id, one.answered_at))
        for answer in standing:
            yield answer


async def with_answers(client: ClickHouseClient, settings: Settings, places: Sequence[Place]) -> set[Place]:
    """Those of ``places`` about which somebody's label stands. Raises as `human_answers`."""
    found: set[Place] = set()
    for _, given in place_batches(places):
        rows = await client.rows(
            "SELECT DISTINCT toUnixTimestamp64Micro(created_at), row_id FROM (\n"
            f"    SELECT created_at, row_id, argMax(toString(model), {newness('labeled_at')}) AS last\n"
            f"    FROM {result_table(settings, LABELED)}\n"
            f"    WHERE label_version = '{HUMAN}' AND {AT_PLACES}\n"
            f"    GROUP BY created_at, row_id, {_WHO}, drawn_by\n"
            f") WHERE NOT endsWith(last, '{UNDONE}')",
            given,
            skip_indexes=index_helps(given),
        )
        found |= {Place(moment(int(at)), str(row_id)) for at, row_id in rows}
    return found


def settled(answers: Sequence[HumanAnswer]) -> HumanAnswer:
    """Of the answers about one row, the one that counts: one that settles, else one about the row as it was
    drawn at random, which people give blindly, else any; of several of a kind the last one.
    """
    return max(
        answers,
        key=lambda one: (one.drawn_by == DISAGREEMENTS, one.draw_probability is not None, one.answered_at),
    )


async def write_answers(
    client: ClickHouseClient, settings: Settings, answers: Sequence[ReviewAnswer]
) -> None:
    """Insert ``answers``; they are stored when it returns. Raises as `human_answers`."""
    columns = [[getattr(answer, name) for answer in answers] for name in _ANSWER_COLUMNS]
    await client.insert(ANSWERS, _ANSWER_COLUMNS, columns, database=settings.result_database)


async def human_rows(
    client: ClickHouseClient,
    settings: Settings,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[Place]:
    """Rows that people gave a label, those too that all took back. Raises as `human_answers`."""
    bounds, given = _bounds("at", since, until)
    rows = await client.rows(_human_rows(settings) + bounds, given)
    return [Place(moment(int(at)), str(row_id)) for at, row_id in rows]


async def count_human_rows(client: ClickHouseClient, settings: Settings) -> int:
    """How many rows `human_rows` has. Raises as `human_answers`."""
    return int((await client.rows(f"SELECT count() FROM ({_human_rows(settings)})"))[0][0])


def _human_rows(settings: Settings) -> str:
    """The projection `label_places` has them apart from all others."""
    return (
        "SELECT DISTINCT toUnixTimestamp64Micro(at), row FROM (\n"
        f"    SELECT {HUMAN_AT} AS at, {HUMAN_ROW} AS row, {TAKEN_BACK} AS back\n"
        f"    FROM {result_table(settings, LABELED)} WHERE label_version = '{HUMAN}'\n"
        "    GROUP BY label_version, at, row, back\n"
        ") WHERE NOT back"
    )


async def _labels_between(
    client: ClickHouseClient, settings: Settings, first: Place, last: Place
) -> list[tuple[_Asked, HumanAnswer]]:
    """The labels that people gave rows from the time of ``first`` to that of ``last``."""
    parts = ", ".join(f"one.{number} AS {name}" for number, name in enumerate(ANSWER_PARTS, 1))
    rows = await client.rows(
        f"SELECT toUnixTimestamp64Micro(at), row, {_WHO} AS who, {_QUEUE},\n"
        "    argMax(tuple(text, toString(source_domain), toString(label), toString(model),\n"
        "        toUnixTimestamp64Micro(labeled_at), toString(drawn_by), draw_probability), "
        f"{newness('labeled_at')}) AS last\nFROM (\n"
        f"    SELECT at, row, {parts} FROM (\n"
        # As the projection `label_places` has them.
        f"        SELECT {HUMAN_AT} AS at, {HUMAN_ROW} AS row, {ANSWERS_OF} AS answers\n"
        f"        FROM {result_table(settings, LABELED)} WHERE label_version = '{HUMAN}'\n"
        f"            AND {time_is('>=', 'first', HUMAN_AT)} AND {time_is('<=', 'last', HUMAN_AT)}\n"
        "        GROUP BY label_version, at, row\n"
        "    ) ARRAY JOIN answers AS one\n"
        ") GROUP BY at, row, who, queue",
        {"first": micros_of(first.created_at), "last": micros_of(last.created_at)},
    )
    found: list[tuple[_Asked, HumanAnswer]] = []
    for at, row_id, who, queue, last in rows:
        text, domain, label, model, answered, drawn_by, chance = tuple_of(last)
        place = Place(moment(int(at)), str(row_id))
        back = model.endswith(UNDONE)
        answer = HumanAnswer(
            place.row_id,
            place.created_at,
            text,
            domain,
            NO_ANSWER if back else LABEL,  # type: ignore[arg-type]
            None if back else label,
            who,
            moment(int(answered)),
            drawn_by,
            probability(chance) or None,
        )
        found.append((_Asked(place, who, str(queue)), answer))
    return found


async def _other_answers(
    client: ClickHouseClient, settings: Settings, since: datetime | None, until: datetime | None
) -> dict[_Asked, HumanAnswer]:
    """The last of them of each reviewer, those that were taken back too: their time counts."""
    bounds, given = _bounds("created_at", since, until)
    rows = await client.rows(
        f"SELECT toUnixTimestamp64Micro(created_at), row_id, toString(who), {_QUEUE},\n"
        "    argMax(tuple(text, toString(source_domain), toString(answer),\n"
        "        toUnixTimestamp64Micro(answered_at), toString(drawn_by), draw_probability), "
        "answered_at) AS last\n"
        f"FROM {result_table(settings, ANSWERS)} WHERE 1{bounds}\n"
        "GROUP BY created_at, row_id, who, queue",
        given,
    )
    found: dict[_Asked, HumanAnswer] = {}
    for at, row_id, who, queue, last in rows:
        text, domain, answer, answered, drawn_by, chance = tuple_of(last)
        place = Place(moment(int(at)), str(row_id))
        found[_Asked(place, who, str(queue))] = HumanAnswer(
            place.row_id,
            place.created_at,
            text,
            domain,
            answer,
            None,
            who,
            moment(int(answered)),
            drawn_by,
            probability(chance) or None,
        )
    return found


def _bounds(column: str, since: datetime | None, until: datetime | None) -> tuple[str, dict[str, Any]]:
    parts, given = "", dict[str, Any]()
    for name, comparison, at in (("since", ">=", since), ("until", "<", until)):
        if at is not None:
            parts += f" AND {time_is(comparison, name, column)}"
            given[name] = micros_of(at)
    return parts, given
