"""What is asked of whole tables is read from their projections. Else it would cost the more the longer the
history is, with the same answer.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.queries.gold import human_answers, human_rows
from connectors.clickhouse.queries.label_versions import list_versions
from connectors.clickhouse.queries.labelled_rows import count_of
from connectors.clickhouse.queries.places import times_of
from connectors.clickhouse.queries.version_diff import _sample
from connectors.clickhouse.sink.stored_offsets import stored_offsets
from streams.core.settings import Settings
from streams.ports.lookups import Place
from tests.integration.connectors.clickhouse.engine import Database

TOPIC = uuid.UUID(int=1)

Ask = Callable[[ClickHouseClient, Settings], Awaitable[Any]]


async def answers(client: ClickHouseClient, settings: Settings) -> list[Any]:
    return [one async for one in human_answers(client, settings)]


async def people(client: ClickHouseClient, settings: Settings) -> list[Place]:
    return sorted(await human_rows(client, settings))


async def offsets(client: ClickHouseClient, settings: Settings) -> list[tuple[int, int]]:
    database, spans = settings.result_database, {0: (0, 2**62)}
    return list((await stored_offsets(client, database, "logs_labeled", TOPIC, spans))[0])


ASKED: dict[str, tuple[str, Ask]] = {
    "what the sink holds": ("label_places", offsets),
    "the times of an id": (
        "row_times",
        lambda client, settings: times_of(client, settings, ["77"]),
    ),
    "rows of each version": (
        "label_places",
        lambda client, settings: list_versions(client, settings, counted=True),
    ),
    "labels of a version": ("label_places", lambda client, settings: count_of(client, settings, "v1")),
    "people's labels": ("label_places", people),
    "what people answered": ("label_places", answers),
    "when two versions have labels": (
        "label_places",
        lambda client, settings: _sample(client, settings, {"a": "v1", "b": "human"}),
    ),
}


@pytest.mark.parametrize("what", list(ASKED))
async def test_the_projection_is_read(database: Database, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client, settings = database
    # In a small table the server may as well use this index.
    await client.command(f"ALTER TABLE {settings.result_database}.logs_labeled DROP INDEX by_row")
    await client.command(
        f"INSERT INTO {settings.result_database}.logs_labeled (row_id, text, created_at, label_version, "
        "label, model, drawn_by, draw_probability, _topic_id, _offset) SELECT toString(number) AS row_id, "
        "concat('text ', row_id), toDateTime64(number, 6), if(number % 1000 = 0, 'human', 'v1'), 'a', "
        f"'human:anna', 'audit', 0.5, '{TOPIC}', number FROM numbers(100000)"
    )
    name, ask = ASKED[what]
    asked: list[tuple[Any, ...]] = []
    rows = client.rows

    async def note(*query: Any) -> Any:
        asked.append(query)
        return await rows(*query)

    monkeypatch.setattr(client, "rows", note)
    found = await ask(client, settings)
    read = [line for sql, *given in asked for (line,) in await rows(f"EXPLAIN {sql}", *given)]
    assert any(f"ReadFromMergeTree ({name})" in line for line in read)
    assert not any(f"{settings.result_database}.logs_labeled)" in line for line in read)
    # And the table tells the same.
    await client.command(f"ALTER TABLE {settings.result_database}.logs_labeled DROP PROJECTION {name}")
    assert found == await ask(client, settings)
