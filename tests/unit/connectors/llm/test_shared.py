"""Equal questions share a call, and the memory of answers is bounded in bytes."""

from __future__ import annotations

import asyncio
import tracemalloc

import orjson
import pytest

from connectors.llm.cache import Shared
from streams.core.context import REPLAY


class Asking:
    """Calls that end when they are told to."""

    def __init__(self) -> None:
        self.calls = 0
        self.cancelled = 0
        self.go = asyncio.Event()

    async def __call__(self) -> bytes:
        self.calls += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return b"answer"


async def test_equal_questions_share_one_call_and_then_the_answer() -> None:
    shared, ask = Shared(), Asking()
    tasks = [asyncio.create_task(shared.get(b"k", ask)) for _ in range(10)]
    other = asyncio.create_task(shared.get(b"other", ask))
    await asyncio.sleep(0)
    ask.go.set()
    found = await asyncio.gather(*tasks)
    assert [cached for _, cached in found] == [False] + [True] * 9
    assert await shared.get(b"k", ask) == (b"answer", True)
    assert await other == (b"answer", False)
    assert ask.calls == 2


async def test_a_failure_reaches_all_who_wait_and_is_not_remembered() -> None:
    shared = Shared()
    calls = 0

    async def fail() -> bytes:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        raise ValueError("no")

    found = await asyncio.gather(*(shared.get(b"k", fail) for _ in range(3)), return_exceptions=True)
    assert [type(one) for one in found] == [ValueError] * 3
    with pytest.raises(ValueError, match="no"):
        await shared.get(b"k", fail)
    assert calls == 2


async def test_if_the_one_who_asks_is_cancelled_another_one_asks() -> None:
    shared, ask = Shared(), Asking()
    tasks = [asyncio.create_task(shared.get(b"k", ask)) for _ in range(4)]
    await asyncio.sleep(0.01)
    tasks[1].cancel()  # it only waits
    await asyncio.sleep(0.01)
    assert (ask.calls, ask.cancelled) == (1, 0)
    tasks[0].cancel()
    await asyncio.sleep(0.01)
    assert (ask.calls, ask.cancelled) == (2, 1)
    ask.go.set()
    assert await tasks[2] == (b"answer", False)
    assert await tasks[3] == (b"answer", True)
    assert shared.results == {"hit": 0, "shared": 1, "miss": 2}


async def test_if_all_are_cancelled_the_next_begins_another_call() -> None:
    shared, ask = Shared(), Asking()
    tasks = [asyncio.create_task(shared.get(b"k", ask)) for _ in range(2)]
    await asyncio.sleep(0.01)
    for task in tasks:
        task.cancel()
    again = asyncio.create_task(shared.get(b"k", ask))
    await asyncio.sleep(0.01)
    assert ask.cancelled == 1
    ask.go.set()
    assert await again == (b"answer", False)
    assert ask.calls == 2


async def test_answers_known_from_elsewhere_need_no_call() -> None:
    shared, ask = Shared(), Asking()
    shared.warm(b"k", b"known")
    assert await shared.get(b"k", ask) == (b"known", True)
    assert ask.calls == 0


async def test_a_call_knows_whether_its_first_caller_is_a_replay() -> None:
    shared = Shared()

    async def ask() -> bytes:
        return b"replay" if REPLAY.get() else b"live"

    async def replay() -> bytes:
        REPLAY.set(True)
        return (await shared.get(b"r", ask))[0]

    assert await asyncio.create_task(replay()) == b"replay"
    assert (await shared.get(b"l", ask))[0] == b"live"


async def test_what_is_asked_for_again_stays_and_the_rest_goes() -> None:
    shared = Shared(most_bytes=400 * 100)

    async def never() -> bytes:
        raise AssertionError("asked")

    async def again() -> bytes:
        return b"again"

    shared.warm(b"popular", b"known")
    for number in range(10_000):
        shared.warm(b"%06d" % number, b"x" * 20)
        if number % 10 == 0:
            assert await shared.get(b"popular", never) == (b"known", True)
    assert shared.size < 400 * 100 / 170
    assert await shared.get(b"%06d" % 1, again) == (b"again", False)


def test_the_bound_is_one_in_bytes() -> None:
    """Measured with answers as labels are kept: about 300 bytes each, whatever has been asked before."""
    most = 4 * 2**20
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    shared = Shared(most_bytes=most)
    for number in range(60_000):
        answer = orjson.dumps(["delivery", 0.98, ["payment", 0.01], ["refund", 0.005], ["other", number]])
        shared.warm(number.to_bytes(16, "big"), answer)
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert shared.size > 5_000
    assert used < 1.3 * most
    assert used / shared.size < 400
