"""When texts are asked again, whatever goes wrong in between."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from streams.core.errors import LeaseLostError, UnavailableError
from streams.core.label_version import LabelSpec
from streams.core.messages import Labeled, Row
from streams.core.outcomes import Done, Outcome, Retry
from streams.core.topics import Topics
from streams.drift import asking
from streams.drift.asking import EndpointDrift
from streams.drift.checkpoint import KnownDrift
from streams.drift.endpoint import AskedText, EndpointWatch

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


class Endpoint:
    """In place of the label step: of 40 texts those in ``fails`` are to be tried again later."""

    def __init__(self, *fails: str) -> None:
        self.fails, self.asked = set(fails), 0

    async def label(self, row: Row) -> Outcome[Labeled]:
        self.asked += 1
        if row.text in self.fails:
            return Retry(1.0, "500")
        return Done(Labeled.made(label="cards"))


def asks(monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint) -> tuple[EndpointDrift, list[EndpointWatch]]:
    saved: list[EndpointWatch] = []
    at = datetime(2026, 11, 2, tzinfo=UTC)
    known = KnownDrift()
    texts = [AskedText(row_id=str(n), created_at=at, label="cards") for n in range(40)]
    known.endpoints["v1"] = EndpointWatch(version="v1", texts=texts, asked_at=at)
    nothing, lease = cast(Any, None), cast(Any, SimpleNamespace(generation=1))
    asker = EndpointDrift(
        Topics("esk"), SPEC, nothing, nothing, known, sender=nothing, lease=lease, asks=lambda: True
    )

    async def stored(watch: EndpointWatch) -> dict[int, str]:
        return {n: str(n) for n in range(len(watch.texts))}

    async def save(watch: EndpointWatch, generation: int) -> None:
        saved.append(watch)

    for name, fake in (("_texts", stored), ("_save", save), ("_labeler", endpoint)):
        monkeypatch.setattr(asker, name, fake)
    return asker, saved


async def test_a_text_that_the_endpoint_always_fails_on_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    asker, saved = asks(monkeypatch, Endpoint("7"))
    await asker.step()
    assert [(one.first, one.texts[6].asked, one.texts[7].asked) for one in saved] == [(1, 1, 0)]


async def test_an_endpoint_that_is_away_is_not_asked_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = Endpoint(*(str(n) for n in range(8, 40)))
    asker, saved = asks(monkeypatch, endpoint)
    await asker.step()
    await asker.step()
    assert (saved, endpoint.asked) == ([], 12)


async def test_rows_that_are_gone_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    asker, saved = asks(monkeypatch, Endpoint())

    async def stored(watch: EndpointWatch) -> dict[int, str]:
        return {n: str(n) for n in range(40) if n != 3}

    monkeypatch.setattr(asker, "_texts", stored)
    await asker.step()
    (watch,) = saved
    assert [n for n, one in enumerate(watch.texts) if not one.row_id] == [3]
    assert (watch.texts[3].created_at.timestamp(), watch.texts[3].asked) == (0.0, 0)
    monkeypatch.undo()
    asked: list[Any] = []

    async def labels(*given: Any, **_: Any) -> dict[Any, Any]:
        asked.extend(given[3])
        return {}

    async def ask(work: Any) -> Any:
        return await work(None, None)

    monkeypatch.setattr(asking, "labels_at", labels)
    monkeypatch.setattr(asker, "_tables", SimpleNamespace(ask=ask))
    assert await asker._texts(watch) == {}
    assert len(asked) == 39
