"""The gate's decision: which rows are compared, and what is said."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.queries.given_labels import GivenLabel
from connectors.clickhouse.queries.label_versions import LabelVersion
from streams.core.settings import Settings
from streams.ports.lookups import Place
from streams.quality.gate import JudgedRow, Labels, Passage, decide, examine, has_gold

AT = datetime(2026, 3, 1, tzinfo=UTC)


def passage(gold: Sequence[JudgedRow], now: Sequence[str | None], then: Sequence[str | None]) -> Passage:
    """The decision over ``gold`` with these labels of the current version and of the candidate."""

    def labels(given: Sequence[str | None]) -> Labels:
        return {
            one.place: GivenLabel(one.place.created_at, name, None, None)
            for one, name in zip(gold, given, strict=True)
            if name
        }

    return decide("v2", "v1", gold, labels(now), labels(then), 0.03)


def rows(count: int, probability: float | None = None, label: str | None = "a") -> list[JudgedRow]:
    return [JudgedRow(Place(AT, f"{label}-{probability}-{n}"), label, probability) for n in range(count)]


def test_drawn_rows_are_compared_alone_when_there_are_enough() -> None:
    # Of the reviewed ones the candidate has all right, of the drawn ones none.
    gold = rows(120, 0.01) + rows(200)
    found = passage(gold, ["a"] * 120 + ["b"] * 200, ["b"] * 120 + ["a"] * 200)
    assert found.verdict is not None
    assert (found.verdict.answer, found.verdict.rows, found.drawn) == ("worse", 120, True)
    assert "not drawn" not in found.text


def test_few_drawn_rows_are_compared_with_the_others_and_that_is_said() -> None:
    gold = rows(20, 0.01) + rows(200)
    found = passage(gold, ["a"] * 20 + ["b"] * 200, ["a"] * 20 + ["a"] * 200)
    assert found.verdict is not None
    assert (found.verdict.answer, found.verdict.rows, found.drawn) == ("better", 220, False)
    assert "were not drawn at random" in found.text


def test_a_drawn_row_counts_by_its_probability() -> None:
    gold = rows(100, 0.5) + rows(100, 0.01)
    found = passage(gold, ["b"] * 50 + ["a"] * 150, ["a"] * 200)
    assert found.verdict is not None
    assert found.verdict.difference == pytest.approx(50 * 2 / (100 * 2 + 100 * 100))


def test_a_row_counts_only_with_both_labels_of_its_own_time() -> None:
    gold = rows(300)
    gold = [*gold, JudgedRow(Place(AT + timedelta(days=1), gold[0].place.row_id), "a")]
    now, then = (["a"] * 301, ["a"] * 280 + [None] * 21)
    found = passage(gold, now, then)
    assert found.verdict is not None
    assert (found.verdict.rows, found.missing, found.passes) == (280, 21, True)


def test_a_candidate_that_labelled_chosen_rows_alone_is_undecided() -> None:
    # It has labels of those rows only that the current version has wrong.
    drawn = rows(1000, 0.01)
    now: list[str | None] = ["b"] * 100 + ["a"] * 900
    found = passage(drawn, now, ["a"] * 100 + [None] * 900)
    assert found.verdict is not None
    assert (found.verdict.answer, found.verdict.rows, found.passes) == ("undecided", 100, False)
    assert "no label of 900 of 1000 gold rows" in found.text
    assert "labelstream replay --from-table --version v2" in found.text
    assert passage(drawn, now, ["a"] * 900 + [None] * 100).passes
    # A few rows that stand for many are many.
    uneven = rows(300, 0.5) + rows(20, 0.01)
    assert not passage(uneven, ["b"] * 320, ["a"] * 300 + [None] * 20).passes


def test_it_is_undecided_on_lacking_drawn_rows_however_many_others_it_has() -> None:
    gold = rows(120, 0.01) + rows(5000)
    found = passage(gold, ["b"] * 5120, [None] * 120 + ["a"] * 5000)
    assert (found.passes, found.drawn) == (False, True)
    # Gold rows that the current version never labelled do not count.
    assert passage(rows(1000), ["b"] * 300 + [None] * 700, ["a"] * 300 + [None] * 700).passes


def test_gold_rows_that_the_candidate_never_saw_are_no_reason_to_pass() -> None:
    found = passage(rows(30), ["a"] * 30, [None] * 30)
    assert (found.passes, found.missing) == (False, 30)
    assert "labelstream replay --from-table --version v2" in found.text


def test_the_text_says_what_to_do() -> None:
    undecided = passage(rows(100), ["a"] * 100, ["a"] * 100)
    assert undecided.verdict is not None
    assert f"Label {undecided.verdict.more} more rows" in undecided.text
    rare = rows(400) + rows(40, label="rare")
    worse = passage(rare, ["a"] * 400 + ["rare"] * 40, ["a"] * 400 + ["a"] * 20 + ["rare"] * 20)
    assert "worse for the label rare (20 rows lost, 0 won)" in worse.text
    assert worse.as_dict()["labels"][0]["label"] == "rare"


def version(name: str, status: str, promoted: int | None, *, current: bool = False) -> LabelVersion:
    """``promoted``: the day on which it was; None: never."""
    since = None if promoted is None else AT + timedelta(days=promoted)
    return LabelVersion(name, "m", "", "", "json", status, since, AT, AT, current=current)


@pytest.mark.parametrize(
    ("known", "compared_with"),
    [
        ([version("v1", "retired", 2), version("v0", "retired", 1)], "v1"),
        ([version("v0", "promoted", 1, current=True), version("v1", "retired", 2)], "v0"),
    ],
    ids=["all retired", "one stands"],
)
async def test_to_retire_versions_opens_no_way_round_the_gate(
    known: list[LabelVersion], compared_with: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gold = rows(400)
    right = {compared_with: "a", "v2": "b"}

    async def versions(*_: object) -> list[LabelVersion]:
        return [*known, version("v2", "trial", None)]

    async def history(client: object, settings: object, name: str) -> list[LabelVersion]:
        return [one for one in await versions() if one.version == name]

    async def judged(*_: object) -> list[JudgedRow]:
        return gold

    async def labels(
        client: object, settings: object, name: str, places: Sequence[Place], **_: object
    ) -> Labels:
        return {one: GivenLabel(AT, right[name], None, None) for one in places if name in right}

    async def labels_of_all(
        client: object, settings: object, names: Sequence[str], places: Sequence[Place], **_: object
    ) -> dict[str, Labels]:
        return {name: await labels(client, settings, name, places) for name in names}

    for name, known_to in (
        ("list_versions", versions),
        ("version_history", history),
        ("judged_rows", judged),
        ("labels_at", labels),
        ("labels_of_versions", labels_of_all),
    ):
        monkeypatch.setattr(f"streams.quality.gate.{name}", known_to)
    client, settings = cast(ClickHouseClient, None), Settings()
    found = await examine(client, settings, "v2")
    assert (found.current, found.passes) == (compared_with, False)
    assert await has_gold(client, settings, "v2")
    assert not await has_gold(client, settings, compared_with)
