"""Intake on its own: what cannot be taken is owed until it can."""

from __future__ import annotations

import asyncio

import pytest

from streams.core.codec import encode
from streams.core.records import Outgoing, Record
from streams.delivery.ordered_input import OrderedInput
from tests.unit.streams.delivery.fakes import ROWS, Broker, record, row
from tests.waiting import PATIENCE


def _broker(rows: int) -> Broker:
    broker = Broker()
    broker.logs[("rows", 0)] = [Outgoing("rows", 0, b"%d" % n, encode(row(str(n)))) for n in range(rows)]
    return broker


async def _until_filled(intake: OrderedInput, end: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while intake.next < end:
            await asyncio.sleep(0)


async def test_a_message_of_a_gap_that_cannot_be_taken_is_read_and_taken_again() -> None:
    taken: list[int] = []
    broken = {1, 3}  # each fails once: in the middle of a gap, and as its last

    def take(message: Record) -> None:
        if message.offset in broken:
            broken.remove(message.offset)
            raise RuntimeError("no memory left")
        taken.append(message.offset)

    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.sleep(0)

    intake = OrderedInput(ROWS, 0, _broker(6), take, sleep)
    intake.offer(record(4, "4"))
    intake.offer(record(5, "5"))
    await _until_filled(intake, 6)
    assert taken == [0, 1, 2, 3, 4, 5]
    assert len(pauses) == 2


async def test_a_message_that_could_not_be_taken_as_it_came_is_read_again_with_the_next() -> None:
    taken: list[int] = []
    broken = {0}

    def take(message: Record) -> None:
        if message.offset in broken:
            broken.remove(message.offset)
            raise RuntimeError("no memory left")
        taken.append(message.offset)

    intake = OrderedInput(ROWS, 0, _broker(2), take)
    with pytest.raises(RuntimeError):
        intake.offer(record(0, "0"))
    assert intake.next == 0
    intake.offer(record(1, "1"))
    await _until_filled(intake, 2)
    assert taken == [0, 1]
    assert broken == set()
