"""Pages are read ahead by one, in order, and what was begun is ended."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from connectors.clickhouse.poller.read_ahead import one_ahead


async def test_the_next_page_is_read_while_one_is_worked_on() -> None:
    begun: list[int] = []

    async def following() -> int | None:
        begun.append(len(begun))
        await asyncio.sleep(0)
        return begun[-1] if len(begun) < 4 else None

    found = []
    async with contextlib.aclosing(one_ahead(following)) as pages:
        async for page in pages:
            await asyncio.sleep(0)
            assert begun[-1] == page + 1
            found.append(page)
    assert found == [0, 1, 2]


async def test_who_leaves_ends_the_call_under_way() -> None:
    ended = asyncio.Event()
    calls = 0

    async def following() -> int | None:
        nonlocal calls
        calls += 1
        if calls == 1:
            return 1
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return None

    async with contextlib.aclosing(one_ahead(following)) as pages:
        async for _ in pages:
            await asyncio.sleep(0)
            break
    assert ended.is_set()


async def test_an_error_comes_after_the_pages_before_it() -> None:
    answers = iter([1, 2])

    async def following() -> int | None:
        try:
            return next(answers)
        except StopIteration:
            raise ValueError("away") from None

    found: list[int] = []

    async def read() -> None:
        async with contextlib.aclosing(one_ahead(following)) as pages:
            async for page in pages:
                found.append(page)

    with pytest.raises(ValueError, match="away"):
        await read()
    assert found == [1, 2]
