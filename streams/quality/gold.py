"""The gold set: taken out as a file, and doubted."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from typing import Any

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.queries.gold import human_answers
from streams.core.settings import Settings
from streams.ports.review import GOLD_COLUMNS, NO_LABEL, GoldLabel, HumanAnswer
from streams.privacy.erasure import ERASED_ID
from streams.quality.settled import SettledRow, settled_rows
from streams.quality.suspects import suspects


async def gold_labels(client: ClickHouseClient, settings: Settings) -> AsyncIterator[GoldLabel]:
    """Every row that somebody judged, by row time, with the answer that counts.

    Raises:
        UnavailableError, ConfigurationError: as the client.
    """
    some: list[HumanAnswer] = []
    async for answer in human_answers(client, settings):
        if some and (some[0].created_at, some[0].row_id) != (answer.created_at, answer.row_id):
            for row in settled_rows(some):
                if _taken(row):
                    yield _gold(row)
            some = []
        some.append(answer)
    for row in settled_rows(some):
        if _taken(row):
            yield _gold(row)


def _taken(row: SettledRow) -> bool:
    """Of an erased row only the answers are left, which count in estimates and teach nothing."""
    return row.judged and not row.place.row_id.startswith(ERASED_ID)


def _gold(row: SettledRow) -> GoldLabel:
    return GoldLabel(
        row.place.row_id,
        row.place.created_at,
        row.text,
        row.label or NO_LABEL,
        row.last.who,
        row.last.answered_at,
        row.last.drawn_by,
        row.probability,
    )


async def gold_lines(settings: Settings) -> AsyncIterator[str]:
    """The gold set as lines of CSV, its header first. Raises as `gold_labels`."""
    async with ClickHouseClient.from_settings(settings) as client:
        rows = [one async for one in gold_labels(client, settings)]
    yield _line(GOLD_COLUMNS)
    for one in rows:
        yield _line(one.values())


async def gold_suspects(settings: Settings, most: int) -> dict[str, Any]:
    """The labels of people that are likeliest wrong, at most ``most``, ready for JSON.

    Raises:
        RefusedError: too few rows to learn from.
        UnavailableError, ConfigurationError: as the client.
    """
    async with ClickHouseClient.from_settings(settings) as client:
        rows = [one async for one in gold_labels(client, settings) if one.label != NO_LABEL]
    found = suspects([one.text for one in rows], [one.label for one in rows])
    return {
        "gold": len(rows),
        "suspects": len(found),
        "rows": [
            {
                "row_id": rows[one.at].row_id,
                "created_at": rows[one.at].created_at.isoformat(),
                "text": rows[one.at].text,
                "label": rows[one.at].label,
                "labeled_by": rows[one.at].labeled_by,
                "likelier": one.likelier,
                "likelier_probability": one.likelier_probability,
                "probability": one.given_probability,
            }
            for one in found[:most]
        ],
    }


def _line(values: tuple[Any, ...]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()
