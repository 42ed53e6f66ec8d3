"""What a cascade's trainer reads of the stored labels: never more than a bounded part of the table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import result_table
from connectors.clickhouse.queries.places import AT_PLACES, index_helps, place_batches
from connectors.clickhouse.queries.relabel_rows import LabelledRows
from connectors.clickhouse.schema.newest import newness
from connectors.clickhouse.schema.tables import LABELED
from streams.core.label_version import HUMAN, UNDONE
from streams.core.settings import Settings
from streams.core.times import moment
from streams.ports.lookups import Place

# Of the newest rows so many are looked at, however few of them are wanted.
_MOST_READ = 5_000_000
_BOUNDED = f"SETTINGS max_rows_to_read = {_MOST_READ}, read_overflow_mode = 'break'"
_FIRST_BY_MODEL = "NOT cached AND decided_by = 'llm'"


class StoredLabel(NamedTuple):
    """A label as it is stored. ``at``: when it was decided, microseconds since 1970. ``message``: the topic's
    incarnation, partition and offset that it came from.
    """

    place: Place
    text: str
    label: str
    at: int
    message: tuple[str, int, int] = ("", 0, 0)


async def first_sights(
    client: ClickHouseClient, settings: Settings, version: str, since: int, most: int
) -> list[StoredLabel]:
    """The newest rows that the model itself labelled under ``version``, at most so many, in the order in
    which they were labelled; of 5,000,000 rows at most. ``since``: when they were, microseconds.

    Raises:
        UnavailableError, ConfigurationError: as the client.
    """
    rows = await client.rows(
        "SELECT row_id, toUnixTimestamp64Micro(created_at), text, toString(label),\n"
        "    toUnixTimestamp64Micro(labeled_at), toString(_topic_id), _partition, _offset\n"
        f"FROM {result_table(settings, LABELED)}\n"
        f"WHERE label_version = {{version:String}} AND {_FIRST_BY_MODEL}\n"
        "    AND labeled_at >= fromUnixTimestamp64Micro({since:Int64}, 'UTC')\n"
        f"ORDER BY created_at DESC LIMIT {{most:UInt64}} {_BOUNDED}",
        {"version": version, "since": since, "most": most},
    )
    return sorted(map(_stored, rows), key=lambda one: one.at)


async def first_sights_at(
    client: ClickHouseClient, settings: Settings, version: str, places: Sequence[Place]
) -> dict[Place, StoredLabel]:
    """Of these rows those that the model itself labelled under ``version``, not by an equal text's answer.

    Raises:
        UnavailableError, ConfigurationError: as the client.
    """
    found: dict[Place, StoredLabel] = {}
    for some, given in place_batches(places):
        rows = await client.rows(
            "SELECT row_id, toUnixTimestamp64Micro(created_at), text, tupleElement(last, 1),\n"
            "    tupleElement(last, 2) FROM (\n"
            "    SELECT row_id, created_at, any(text) AS text,\n"
            "        argMax(tuple(toString(label), toUnixTimestamp64Micro(labeled_at), cached,\n"
            f"            toString(decided_by)), {newness('labeled_at')}) AS last\n"
            f"    FROM {result_table(settings, LABELED)}\n"
            f"    WHERE label_version = {{version:String}} AND {AT_PLACES}\n"
            "    GROUP BY row_id, created_at\n"
            ") WHERE NOT tupleElement(last, 3) AND tupleElement(last, 4) = 'llm'",
            {"version": version, **given},
            skip_indexes=index_helps(given),
        )
        wanted = set(some)
        found |= {one.place: one for one in map(_stored, rows) if one.place in wanted}
    return found


async def labels_by_people(client: ClickHouseClient, settings: Settings, most: int) -> list[tuple[str, str]]:
    """Text and label of the newest rows that people labelled because they looked for them, or the model was
    unsure: at most so many, of 5,000,000 rows.

    Raises:
        UnavailableError, ConfigurationError: as the client.
    """
    rows = await client.rows(
        "SELECT text, tupleElement(last, 1) FROM (\n"
        "    SELECT created_at, row_id, any(text) AS text,\n"
        f"        argMax(tuple(toString(label), toString(model)), {newness('labeled_at')}) AS last\n"
        f"    FROM {result_table(settings, LABELED)}\n"
        "    WHERE label_version = {human:String} AND ifNull(toString(drawn_by), 'audit') != 'audit'\n"
        "    GROUP BY created_at, row_id\n"
        ") WHERE NOT endsWith(tupleElement(last, 2), {undone:String})\n"
        f"ORDER BY created_at DESC LIMIT {{most:UInt64}} {_BOUNDED}",
        {"human": HUMAN, "undone": UNDONE, "most": most},
    )
    return [(str(text), str(label)) for text, label in rows]


class ProxyLabelledRows(LabelledRows):
    """Rows whose newest label of ``version`` is by its proxy, and was decided at ``labelled_since`` or later,
    microseconds since 1970. In order of time and id.
    """

    def __init__(
        self, client: ClickHouseClient, settings: Settings, version: str, labelled_since: int
    ) -> None:
        super().__init__(client, settings, since=None, until=None)
        self._version = version
        self._labelled_since = labelled_since

    @property
    def _view(self) -> str:
        # The conditions on the row's time, which is in the key, reach the table.
        names = ("text", "user_id", "session_id", "source_domain", "polled_at")
        columns = ", ".join(f"tupleElement(last, {at}) AS {name}" for at, name in enumerate(names, 1))
        return (
            f"(SELECT row_id, created_at, {columns} FROM (\n"
            f"    SELECT row_id, created_at, argMax(tuple({', '.join(names)}, toString(decided_by),\n"
            f"        toUnixTimestamp64Micro(labeled_at)), {newness('labeled_at')}) AS last\n"
            f"    FROM {self._database}.{LABELED} WHERE label_version = {{of_version:String}}\n"
            "    GROUP BY row_id, created_at\n"
            ") WHERE tupleElement(last, 6) = 'proxy' AND tupleElement(last, 7) >= {labelled_since:Int64})"
        )

    def _conditions(self, begin: int | None, last: int | None) -> tuple[str, dict[str, object]]:
        bounds, given = super()._conditions(begin, last)
        return bounds, given | {"of_version": self._version, "labelled_since": self._labelled_since}


def _stored(row: Sequence[Any]) -> StoredLabel:
    row_id, at, text, label, labelled, *message = row
    place = Place(moment(int(at)), str(row_id))
    found = StoredLabel(place, str(text), str(label), int(labelled))
    if not message:
        return found
    topic_id, partition, offset = message
    return found._replace(message=(str(topic_id), int(partition), int(offset)))
