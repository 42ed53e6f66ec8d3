"""The gold set: taken out as a file, and doubted."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from typing import Any

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.queries.gold import human_answers
from streams.core.settings import Settings
from streams.quality.settled import SettledRow, settled_rows
from streams.quality.suspects import suspects

COLUMNS = (
    "row_id",
    "created_at",
    "text",
    "label",
    "labeled_by",
    "labeled_at",
    "drawn_by",
    "draw_probability",
)


async def gold_rows(settings: Settings) -> list[SettledRow]:
    """Every row with a right label, by row time.

    Raises:
        UnavailableError, ConfigurationError: as the client.
    """
    async with ClickHouseClient.from_settings(settings) as client:
        answers = [one async for one in human_answers(client, settings)]
    return [one for one in settled_rows(answers) if one.label is not None]


async def gold_lines(settings: Settings) -> AsyncIterator[str]:
    """The gold set as lines of CSV, its header first. Raises as `gold_rows`."""
    rows = await gold_rows(settings)
    yield _line(COLUMNS)
    for row in rows:
        yield _line(
            (
                row.place.row_id,
                row.place.created_at.isoformat(),
                row.text,
                row.label,
                row.last.who,
                row.last.answered_at.isoformat(),
                row.last.drawn_by,
                row.probability,
            )
        )


async def gold_suspects(settings: Settings, most: int) -> dict[str, Any]:
    """The labels of people that are likeliest wrong, at most ``most``, ready for JSON.

    Raises:
        RefusedError: too few rows to learn from.
        UnavailableError, ConfigurationError: as the client.
    """
    rows = await gold_rows(settings)
    found = suspects([one.text for one in rows], [one.label or "" for one in rows])
    return {
        "gold": len(rows),
        "suspects": len(found),
        "rows": [
            {
                "row_id": rows[one.at].place.row_id,
                "created_at": rows[one.at].place.created_at.isoformat(),
                "text": rows[one.at].text,
                "label": rows[one.at].label,
                "labeled_by": rows[one.at].last.who,
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
