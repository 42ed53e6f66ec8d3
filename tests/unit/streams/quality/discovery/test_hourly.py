"""What is new is told by the hour, without its texts, and nothing is told where it cannot be known."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streams.core.errors import ConfigurationError, UnavailableError
from streams.core.settings import Settings
from streams.quality.discovery import hourly
from streams.quality.discovery.hourly import HourlyLook


def group(size: int, growth: float | None) -> dict[str, Any]:
    return {"id": str(size), "size": size, "growth": growth, "examples": [{"text": "тайна"}]}


async def looked(*answers: dict[str, Any] | Exception) -> tuple[HourlyLook, list[float]]:
    left, pauses = list(answers), list[float]()

    async def look(settings: Settings) -> dict[str, Any]:
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        if not left:
            raise asyncio.CancelledError

    found = HourlyLook(Settings(), look=look, pause=pause)
    try:
        await found.run()
    except asyncio.CancelledError:
        pauses.append(0.0)
    return found, pauses


async def test_groups_that_are_new_or_grow_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    answer = {"groups": [group(50, None), group(90, 1.2), group(70, 3.5)]}
    found, pauses = await looked(UnavailableError("away"), answer)
    assert pauses == [900.0, 3600.0, 3600.0, 0.0]
    values = {one.name: one.samples[0].value for one in found.measure()}
    assert values == {"labelstream_new_groups": 2.0, "labelstream_new_group_rows": 70.0}
    assert "тайна" not in capsys.readouterr().out


async def test_without_the_packages_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hourly, "find_spec", lambda name: None)
    found, pauses = await looked({"groups": []})
    assert (pauses, list(found.measure())) == ([], [])


async def test_neither_missing_tables_nor_a_bug_end_it(capsys: pytest.CaptureFixture[str]) -> None:
    found, pauses = await looked(ConfigurationError("no table"), ValueError("тайна"), {"groups": []})
    assert pauses == [900.0, 3600.0, 3600.0, 3600.0, 0.0]
    assert found.groups == []
    assert "тайна" not in capsys.readouterr().out


async def test_nothing_new_is_a_figure_too() -> None:
    found, _ = await looked({"groups": []})
    assert [one.samples[0].value for one in found.measure()] == [0.0, 0.0]
