"""The links between the brokers of a test's cluster, and a hand that cuts them.

Each broker's inter-broker listener is reached through one of these proxies. What comes through it is told
apart by the client id in each connection's first request: a follower's fetchers are `broker-N-fetcher-M`. So
replication to one follower can be held up while that follower keeps its session with the controller, which no
signal to its process can do.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import threading
from collections.abc import Coroutine
from typing import Any

_PIECE = 1 << 16


class ReplicationLink:
    """A proxy on 127.0.0.1 in front of one broker's inter-broker listener. Runs in a thread of its own."""

    def __init__(self, port: int, target: int) -> None:
        """Connections to ``port`` go to ``target``, both on 127.0.0.1."""
        self._port = port
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._open = threading.Event()  # the proxy listens
        self._cut: set[int] = set()
        self._changed = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name=f"link-{port}", daemon=True)

    def start(self) -> None:
        """Listen."""
        self._thread.start()
        assert self._open.wait(30)

    def stop(self) -> None:
        """Close every connection."""
        self._loop.call_soon_threadsafe(self._stopping.set_result, None)
        self._thread.join(30)

    def cut(self, follower: int) -> None:
        """From now on nothing of what broker ``follower`` fetches comes through. Connections stay open, as
        with a slow disk or a full link."""
        self._tell(lambda: self._cut.add(follower))

    def mend(self, follower: int) -> None:
        """The end of `cut`; what was held up comes through."""
        self._tell(lambda: self._cut.discard(follower))

    def _tell(self, change: Any) -> None:
        def apply() -> None:
            change()
            self._changed.set()
            self._changed = asyncio.Event()

        self._loop.call_soon_threadsafe(apply)

    def _run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        self._stopping = self._loop.create_future()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self._open.set()
        await self._stopping
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self._join(reader, writer)
        writer.close()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = await reader.readexactly(4)
        first = await reader.readexactly(struct.unpack(">i", size)[0])
        follower = fetching_broker(first)
        out_reader, out_writer = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            out_writer.write(size + first)
            ways: list[Coroutine[Any, Any, None]] = [
                self._copy(reader, out_writer, follower),
                self._copy(out_reader, writer, follower),
            ]
            tasks = [asyncio.ensure_future(way) for way in ways]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            out_writer.close()

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, follower: int | None
    ) -> None:
        while piece := await reader.read(_PIECE):
            while follower in self._cut:
                await self._changed.wait()
            writer.write(piece)
            await writer.drain()


def fetching_broker(request: bytes) -> int | None:
    """The broker whose replica fetcher sent ``request`` (without its size); None for anybody else."""
    (length,) = struct.unpack(">h", request[8:10])
    name = request[10 : 10 + max(0, length)].decode("utf-8", "replace")
    parts = name.split("-")
    return int(parts[1]) if len(parts) == 4 and parts[0] == "broker" and parts[2] == "fetcher" else None
