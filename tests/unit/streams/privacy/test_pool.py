"""The pool: a text that kills or hangs its worker is the only one that is not masked."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence

import pytest

from streams.core.errors import UnavailableError
from streams.privacy import worker
from streams.privacy.entities import Entity
from streams.privacy.masking import Masked, Masker
from streams.privacy.pool import MaskingPool, _Worker
from tests.unit.streams.privacy.fakes import ENTITIES

WORKER = "tests.unit.streams.privacy.slow_worker"


@pytest.fixture
async def pool() -> AsyncIterator[MaskingPool]:
    made = MaskingPool(ENTITIES, workers=2, module=WORKER)
    yield made
    await made.close()


async def test_texts_that_kill_a_worker_or_fail_are_told_apart_from_all_others(pool: MaskingPool) -> None:
    texts = [f"text {number}" for number in range(70)]
    texts[5], texts[40] = "kill", "fail"
    found = await pool.mask([*texts, "text 0"])
    assert [at for at, one in enumerate(found) if one is None] == [5, 40]
    assert all(one is None or one.text == text.upper() for one, text in zip(found, texts, strict=False))
    assert found[70] == ("TEXT 0", {Entity.PHONE: 1})


async def test_a_text_that_is_never_answered_is_given_up() -> None:
    pool = MaskingPool(ENTITIES, workers=1, module=WORKER, patience=0.05)
    (found,) = await pool.mask(["hang"])
    assert found is None
    await pool.close()


async def test_a_worker_that_is_killed_at_its_start_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    start, tried = _Worker._started, list[int]()

    async def counted(command: Sequence[str]) -> _Worker:
        tried.append(1)
        return await start(command if len(tried) == 3 else [sys.executable, "-c", ""])

    monkeypatch.setattr(_Worker, "_started", counted)
    pool = MaskingPool(ENTITIES, workers=1, module=WORKER)
    await pool.start()
    assert len(tried) == 3
    await pool.close()


async def test_each_batch_counts_as_soon_as_it_is_answered(pool: MaskingPool) -> None:
    masking = asyncio.create_task(pool.mask([*(f"text {number}" for number in range(70)), "hang"]))
    while pool.answered < 64:
        await asyncio.sleep(0.001)
    assert not masking.done()
    masking.cancel()
    await asyncio.wait([masking])


async def test_a_worker_is_given_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIVACY_SECRET", "a secret")
    monkeypatch.setenv("CLICKHOUSE_PASSWORD", "another")
    pool = MaskingPool(ENTITIES, workers=1, module=WORKER)
    (found,) = await pool.mask(["environment"])
    assert found is not None
    assert "PATH" in found.text.split(",")
    assert not {"PRIVACY_SECRET", "CLICKHOUSE_PASSWORD"} & {*found.text.split(",")}
    await pool.close()


async def test_a_worker_that_cannot_start_masks_nothing() -> None:
    pool = MaskingPool(ENTITIES, module="tests.no_such_module")
    with pytest.raises(UnavailableError):
        await pool.mask(["text"])
    await pool.close()


async def test_the_real_worker_masks() -> None:
    pool = MaskingPool(frozenset({Entity.PHONE}), workers=1)
    (found,) = await pool.mask(["звоните +7 916 123-45-67\nвечером"])
    assert found == ("звоните [ТЕЛЕФОН]\nвечером", {Entity.PHONE: 1})
    await pool.close()


class Endless(Masker):
    def __init__(self) -> None: ...

    def mask(self, text: str) -> Masked:
        while text == "hostile":
            pass
        return Masked(text)


def test_a_text_that_takes_too_long_cannot_be_masked_and_others_can() -> None:
    assert worker._masked(Endless(), "hostile", 0.01) is None
    assert worker._masked(Endless(), "text", 0.01) == ("text", {})
