"""Waits for what was sent, except to partitions that cannot be written now."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from streams.core.records import Outage, Partition

# An election is waited for.
_GRACE_SECONDS = 1.0
_LOOK_SECONDS = 0.1


def stopped(outages: Mapping[Partition, Outage]) -> set[Partition]:
    """Those that could not be written for longer than an election takes."""
    now = time.time()
    return {where for where, one in dict(outages).items() if now - one.since >= _GRACE_SECONDS}


async def settled(
    sending: Sequence[tuple[asyncio.Task[Any], Partition]], held: Callable[[], Collection[Partition]]
) -> None:
    """Wait until each is confirmed, or has failed, or its partition is one of ``held``."""
    while unsettled := [(task, where) for task, where in sending if not task.done()]:
        left = held()
        if not (waiting := [task for task, where in unsettled if where not in left]):
            break
        await asyncio.wait(waiting, timeout=_LOOK_SECONDS)
    for task, _ in sending:
        if task.done() and not task.cancelled():
            task.exception()  # of several that fail one is raised
