"""Figures of quality are shared by those who ask for the same, and each version has its verdict."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from connectors.clickhouse.queries.given_labels import GivenLabel
from connectors.clickhouse.queries.label_versions import LabelVersion
from connectors.clickhouse.queries.watching.verified_variants import VerifiedVariants
from streams.api import quality
from streams.api.quality import Picture, QualityBoard
from streams.core.errors import RefusedError, UnavailableError
from streams.core.settings import Settings
from streams.ports.lookups import Place
from streams.ports.review import AUDIT, LABEL, HumanAnswer
from streams.quality.evaluate import EvaluationQuery, GoldOfTables
from streams.quality.settled import settled_rows

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)


class Tables:
    """Hands each question to whoever answers; counts them."""

    def __init__(self) -> None:
        self.asked: list[EvaluationQuery] = []
        self.fails = False

    async def ask(self, work: Callable[[Any, Any], Awaitable[Any]]) -> Any:
        return await work(self, Settings())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1e6]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


async def test_viewers_share_an_answer_for_some_seconds(
    monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    async def answer(client: Any, _: Any, query: EvaluationQuery, __: Any) -> Picture:
        if client.fails:
            raise UnavailableError("away")
        client.asked.append(query)
        await asyncio.sleep(0)
        return Picture(
            clock[0],
            {"version": query.version or "v1", "number": len(client.asked)},
            {("a", "b"): [{"row_id": "7"}]},
        )

    monkeypatch.setattr(quality, "picture", answer)
    tables = Tables()
    board = QualityBoard(cast(Any, tables), {})
    found = await asyncio.gather(*(board.quality("v1", "week", 0.95) for _ in range(50)))
    assert [one["number"] for one in found] == [1] * 50
    # The rows are those of the same look.
    assert await board.rows("v1", "a", "b") == [{"row_id": "7"}]
    assert await board.rows("v1", "b", "a") == ()
    assert (await board.quality("v1", None, 0.95))["number"] == 2
    for number in range(40):
        await board.quality(f"v{number + 2}", None, 0.95)
    assert len(board._known) == 8

    # The page asks for the current version's figures without its name, and for the rows with it.
    clock[0] += 11
    await board.quality(None, "week", 0.95)
    looks = len(tables.asked)
    assert await board.rows("v1", "a", "b") == [{"row_id": "7"}]
    assert len(tables.asked) == looks
    await board.rows("v2", "a", "b")
    assert len(tables.asked) == looks + 1

    first = await board.quality("v1", "week", 0.95)
    clock[0] += 9
    assert await board.quality("v1", "week", 0.95) == first
    clock[0] += 2
    tables.fails = True
    with pytest.raises(UnavailableError):
        await board.quality("v1", "week", 0.95)
    tables.fails = False
    assert (await board.quality("v1", "week", 0.95))["number"] == first["number"] + 1


def version(name: str, status: str = "trial", *, current: bool = False) -> LabelVersion:
    promoted_at = NOW if status == "promoted" else None
    return LabelVersion(name, "m", "p", "t", "json", status, promoted_at, NOW, NOW, current=current)


async def test_versions_stand_side_by_side_with_their_verdicts(monkeypatch: pytest.MonkeyPatch) -> None:
    # v1 is right for 300 of 400 rows, v2 for all of them; v3 labelled none, v0 was current before.
    answers = [
        HumanAnswer(
            str(n), NOW + timedelta(seconds=n), f"text {n}", None, LABEL, "a", "anna", NOW, AUDIT, 0.01
        )
        for n in range(400)
    ]
    rows = settled_rows(answers)
    labels: dict[str, dict[Place, GivenLabel]] = {
        "v1": {
            one.place: GivenLabel(one.place.created_at, "b" if n % 4 == 0 else "a", 0.8, None)
            for n, one in enumerate(rows)
        },
        "v2": {one.place: GivenLabel(one.place.created_at, "a", 0.8, None) for one in rows},
    }
    known = [
        version("v1", "promoted", current=True),
        version("v0", "promoted"),
        version("v2"),
        version("v3"),
        version("gone", "retired"),
        *(version(f"more{n}") for n in range(9)),
    ]

    async def listed(*_: Any) -> list[LabelVersion]:
        return known

    async def gold(*_: Any) -> GoldOfTables:
        return GoldOfTables(rows, 2, 1, 0.5)

    async def given(client: Any, settings: Any, versions: list[str], places: Any, **_: Any) -> Any:
        return {name: labels.get(name, {}) for name in versions}

    async def variants(*_: Any) -> tuple[int, list[VerifiedVariants]]:
        return 1_767_225_600_000_000, [
            VerifiedVariants("n", "a", 900, 100, 190, 10, 200),
            VerifiedVariants("n", "b", 90, 10, 10, 20, 25),
            VerifiedVariants("o", "b", 10, 0, 0, 0, 0),
        ]

    monkeypatch.setattr(quality, "list_versions", listed)
    monkeypatch.setattr(quality, "verified_variants", variants)
    monkeypatch.setattr(quality, "gold_of_tables", gold)
    monkeypatch.setattr(quality, "labels_of_versions", given)
    board = QualityBoard(cast(Any, Tables()), {})
    told = await board.quality(None, "week", 0.95)
    assert (told["version"], told["accuracy"], told["not_sure"], told["kappa"]) == ("v1", 0.75, 2, 0.5)
    shown = {one["version"]: one for one in told["versions"]}
    assert list(shown) == ["v1", "v0", "v2", "v3", "more0", "more1"]
    assert (shown["v2"]["accuracy"], shown["v2"]["verdict"]["answer"]) == (1.0, "better")
    assert (shown["v3"]["accuracy"], shown["v3"]["verdict"]["answer"]) == (None, "undecided")
    assert shown["v1"]["verdict"] is None
    assert shown["v0"]["verdict"] is None

    kept = told["variants"]
    assert kept["since"].startswith("2026-01-01")
    assert [kept[one] for one in ("rows", "verified", "variants", "rejected", "calls")] == [
        1000,
        110,
        230,
        30,
        225,
    ]
    assert kept["changed_low"] < kept["changed"] == 30 / 230 < kept["changed_high"]
    assert [(one["label"], one["changed"]) for one in kept["labels"]] == [("b", 2 / 3), ("a", 0.05)]
    assert [one["model"] for one in kept["models"]] == ["n"]

    confused = await board.rows(None, "a", "b")
    assert [one["row_id"] for one in confused] == [str(4 * n) for n in range(99, 79, -1)]
    assert await board.rows(None, "b", "a") == ()
    assert "gone" in {one["version"] for one in (await board.quality("gone", None, 0.95))["versions"]}
    with pytest.raises(RefusedError, match="nobody"):
        await board.quality("nobody", None, 0.95)
