"""When texts are asked again, whatever goes wrong in between."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from streams.core.errors import LeaseLostError, UnavailableError
from streams.core.label_version import LabelSpec
from streams.core.topics import Topics
from streams.drift.asking import EndpointDrift
from streams.drift.checkpoint import KnownDrift

SPEC = LabelSpec(
    version="v1",
    model="m",
    mode="json",
    prompts={"label": "{domains}"},
    taxonomy={
        "domains": [
            {"name": name, "title": name, "description": name, "examples": [name]}
            for name in ("cards", "loans", "other")
        ]
    },
)


async def test_only_the_worker_of_the_first_partition_asks_and_no_error_ends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine = [False, True, True, True, True]
    errors: list[Any] = [UnavailableError("away"), LeaseLostError("over"), ValueError("odd"), None]
    pauses: list[float] = []
    nothing = cast(Any, None)
    asker = EndpointDrift(
        Topics("esk"),
        SPEC,
        nothing,
        nothing,
        KnownDrift(),
        sender=nothing,
        lease=nothing,
        asks=lambda: mine.pop(0),
    )

    async def step() -> None:
        error = errors.pop(0)
        if error is not None:
            raise error

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        if not mine:
            raise asyncio.CancelledError

    monkeypatch.setattr(asker, "step", step)
    with pytest.raises(asyncio.CancelledError):
        await asker.run(pause)
    assert errors == []
    assert pauses == [600.0] + [30.0] * 6
    assert list(asker.measure()) == []  # it asks, and has no round yet
