"""A version against people's answers in the tables and in files, on the real engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectors.clickhouse.queries.label_versions import register_version
from streams.core.errors import RefusedError
from streams.quality.evaluate import EvaluationQuery, evaluate
from tests.integration.connectors.clickhouse.engine import Database

ROWS = 300


@pytest.fixture
async def database(tables: Database) -> Database:
    await register_version(*tables, version="v1", model="m", status="promoted")
    return tables


async def label(database: Database, version: str, model: str, rows: str, values: str) -> None:
    """``values``: label, confidence, drawn_by and draw_probability, as expressions of ``number``."""
    client, settings = database
    await client.command(
        f"INSERT INTO {settings.result_database}.logs_labeled (row_id, text, created_at, source_domain, "
        "label_version, model, labeled_at, label, confidence, drawn_by, draw_probability)\n"
        "SELECT toString(number), concat('text ', toString(number)), "
        "toDateTime64('2026-03-02', 6, 'UTC') + INTERVAL number HOUR, if(number % 2, 'odd', 'even'),\n"
        f"    '{version}', '{model}', now64(6), {values}\nFROM numbers({ROWS}) WHERE {rows}"
    )


async def test_the_figures_are_those_of_a_computation_by_hand(database: Database, tmp_path: Path) -> None:
    _, settings = database
    with pytest.raises(RefusedError, match="no person has labelled"):
        await evaluate(settings, None, EvaluationQuery(), {})
    # Right below 200. People drew rows 190 to 219 with 0.1, and the unsure rows 290 to 299 came besides.
    await label(database, "v1", "m", "1", "if(number < 200, 'a', 'b'), 1 - number / 300, NULL, NULL")
    await label(database, "human", "human:anna", "number BETWEEN 190 AND 219", "'a', NULL, 'audit', 0.1")
    await label(database, "human", "human:boris", "number >= 290", "'a', NULL, 'unsure', NULL")
    found = await evaluate(settings, None, EvaluationQuery(by="domain"), {})
    assert found["version"] == "v1"
    assert (found["gold"], found["drawn"], found["labeled"], found["right"]) == (40, 30, 40, 10)
    assert (found["accuracy"], found["biased"]) == (pytest.approx(1 / 3), False)
    assert found["confusion"] == {"a": {"b": 30, "a": 10}}
    assert [(one["name"], one["drawn"], one["accuracy"]) for one in found["groups"]] == [
        ("even", 15, pytest.approx(1 / 3)),
        ("odd", 15, pytest.approx(1 / 3)),
    ]
    assert found["coverage"][0]["threshold"] == pytest.approx(1 - 190 / 300)
    assert found["brier"] == pytest.approx(
        sum(((1 - n / 300) - (n < 200)) ** 2 for n in range(190, 220)) / 30
    )

    (tmp_path / "gold.csv").write_text("row_id,label\n1,a\n2,b\n999,c\n3,\n", "utf-8")
    by_id = await evaluate(settings, tmp_path / "gold.csv", EvaluationQuery("v1", by="length"), {})
    assert (by_id["gold"], by_id["labeled"], by_id["right"], by_id["unlabeled"]) == (3, 2, 1, 1)
    assert (by_id["biased"], by_id["kappa"]) == (True, None)
    assert [one["name"] for one in by_id["groups"]] == ["1-20", "unknown"]
    assert any("'b', 'c'" in warning for warning in by_id["warnings"])
    (tmp_path / "texts.csv").write_text(
        "text,label,draw_probability\ntext 250,b,0.5\ntext 1,b,0.01\n", "utf-8"
    )
    by_text = await evaluate(settings, tmp_path / "texts.csv", EvaluationQuery("v1", by="week"), {})
    assert (by_text["accuracy"], by_text["biased"]) == (pytest.approx(2 / 102), False)
    assert [one["name"] for one in by_text["groups"]] == ["2026-03-02", "2026-03-09"]
    with pytest.raises(RefusedError, match="v9 has no label"):
        await evaluate(settings, None, EvaluationQuery("v9"), {})
