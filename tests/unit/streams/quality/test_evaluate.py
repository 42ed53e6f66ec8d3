"""What is told beside the figures."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from connectors.clickhouse.queries.given_labels import GivenLabel
from streams.ports.lookups import Place
from streams.ports.review import HumanAnswer
from streams.quality.evaluate import EvaluationQuery, GoldOfTables
from streams.quality.settled import settled_rows

AT = datetime(2026, 3, 1, tzinfo=UTC)


def answer(row_id: str) -> HumanAnswer:
    return HumanAnswer(row_id, AT, "text", None, "label", "a", "anna", AT, "audit", 0.1)


@pytest.mark.parametrize(
    ("generations", "named"), [((None, None), ""), ((2, 2), ""), ((2, None, 1), "(none, 1, 2)")]
)
def test_confidences_of_several_calibrations_are_told(
    generations: tuple[int | None, ...], named: str
) -> None:
    rows = [answer(str(n)) for n in range(len(generations))]
    given = {
        Place(AT, str(n)): GivenLabel(AT, "a", 0.8, None, 0.9, generation)
        for n, generation in enumerate(generations)
    }
    gold = GoldOfTables(settled_rows(rows), 0, 0, None)
    told = gold.told("v1", given, EvaluationQuery())
    assert [named in one for one in told["warnings"]] == [True] * bool(named)
    assert told["calibration"] == (None if named else generations[0])


def test_the_length_of_an_erased_text_is_not_known() -> None:
    rows = [answer("1"), replace(answer("erased:ab"), text="[erased]")]
    given = {Place(AT, one.row_id): GivenLabel(AT, "a", 0.8, None) for one in rows}
    told = GoldOfTables(settled_rows(rows), 0, 0, None).told("v1", given, EvaluationQuery(by="length"))
    assert [one["name"] for one in told["groups"]] == ["1-20", "unknown"]
