"""What ends a worker of the agents."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka.errors import GroupAuthorizationFailedError

from connectors.kafka.lease import GroupLease
from streams.core.errors import AccessError, UnavailableError
from streams.core.records import Commit, Partition
from streams.pipeline import worker as module
from streams.pipeline.worker import AgentsWorker


class Thread:
    """The client's thread: it has ended, and its calls with it."""

    async def commit_positions(self, positions: Any) -> None:
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        gone.cancel()
        await gone


class App:
    """A Faust app whose client ends for ``reason``."""

    def __init__(self, reason: Exception | None, cancelled: bool) -> None:
        self.on_partitions_revoked = self.on_rebalance_complete = SimpleNamespace(connect=lambda listen: None)
        self.consumer = SimpleNamespace(_thread=Thread())
        self.crash_reason, self.crashed = reason, not cancelled
        self.should_stop = self.rebalancing = False
        self._cancelled = cancelled

    async def start(self) -> None:
        if self._cancelled:
            raise asyncio.CancelledError

    async def stop(self) -> None: ...


class Delivery:
    """Nothing but an offset to be committed."""

    unsure = ""
    flow = SimpleNamespace(replays=frozenset())

    def commits(self) -> dict[Partition, Commit]:
        return {Partition("rows", 0): Commit(1)}

    async def revoked(self, *, owner: bool, seconds: float) -> bool:
        return True

    def forget(self) -> None: ...


@pytest.mark.parametrize("cancelled", [False, True], ids=["crashed", "start cancelled"])
@pytest.mark.parametrize(
    ("reason", "error", "words"),
    [
        (GroupAuthorizationFailedError("agents"), AccessError, "Read on group agents"),
        (RuntimeError("gone"), UnavailableError, "gone"),
        (None, UnavailableError, "the agents' consumer has stopped"),
    ],
    ids=["forbidden", "unknown", "untold"],
)
async def test_it_ends_with_what_ended_its_client(
    reason: Exception | None,
    error: type[Exception],
    words: str,
    cancelled: bool,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    app = App(reason, cancelled)
    monkeypatch.setattr(module, "make_app", lambda *_: app)
    lease = cast(GroupLease, SimpleNamespace(held=lambda: True))
    nothing = cast(Any, SimpleNamespace(fence=lambda: None))
    worker = AgentsWorker(
        group="agents",
        connection={},
        data=tmp_path,
        lease=lease,
        producer=nothing,
        topic_ids=nothing,
        delivery=cast(Any, Delivery()),
        agents={},
    )
    with pytest.raises(error, match=words):
        await worker.run()
