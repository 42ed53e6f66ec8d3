"""Figures of quality are shared by those who ask for the same."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from streams.api import quality
from streams.api.quality import QualityBoard
from streams.core.errors import UnavailableError
from streams.quality.evaluate import EvaluationQuery


class Tables:
    """Hands each question to whoever answers; counts them."""

    def __init__(self) -> None:
        self.asked: list[EvaluationQuery] = []
        self.fails = False

    async def ask(self, work: Callable[[Any, Any], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        return await work(self, None)


async def _answer(client: Any, _: Any, query: EvaluationQuery) -> dict[str, Any]:
    if client.fails:
        raise UnavailableError("away")
    client.asked.append(query)
    await asyncio.sleep(0)
    return {"version": query.version, "number": len(client.asked)}


async def test_viewers_share_an_answer_for_some_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "evaluate_tables", _answer)
    tables = Tables()
    board = QualityBoard(cast(Any, tables))
    found = await asyncio.gather(*(board.quality("v1", None, 0.95) for _ in range(50)))
    assert [one["number"] for one in found] == [1] * 50
    assert (await board.quality("v1", "week", 0.95))["number"] == 2
    for number in range(40):
        await board.quality(f"v{number + 2}", None, 0.95)
    assert len(board._known) == 16

    now = [1e6]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    first = await board.quality("v1", None, 0.95)
    now[0] += 10
    assert await board.quality("v1", None, 0.95) == first
    now[0] += 10
    tables.fails = True
    with pytest.raises(UnavailableError):
        await board.quality("v1", None, 0.95)
    tables.fails = False
    assert (await board.quality("v1", None, 0.95))["number"] == first["number"] + 1
