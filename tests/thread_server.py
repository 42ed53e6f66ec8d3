"""A server of aiohttp on a free port of 127.0.0.1, in a thread of its own."""

from __future__ import annotations

import asyncio
import ssl
import threading
from abc import ABC, abstractmethod
from typing import Any, Self

from aiohttp import web


class ThreadServer(ABC):
    """A context manager. ``url``: where it serves, with the path of an OpenAI-compatible endpoint. ``tls``:
    to be set before it starts.
    """

    def __init__(self) -> None:
        self.url = ""
        self.tls: ssl.SSLContext | None = None
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @abstractmethod
    async def make_runner(self) -> web.BaseRunner[Any]:
        """What answers, made in the thread's event loop."""

    async def close(self, runner: web.BaseRunner[Any]) -> None:
        """Close it, and what `make_runner` has opened besides."""
        await runner.cleanup()

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        runner = self._loop.run_until_complete(self._start())
        self._loop.run_forever()
        self._loop.run_until_complete(self.close(runner))

    async def _start(self) -> web.BaseRunner[Any]:
        runner = await self.make_runner()
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self.tls).start()
        scheme = "http" if self.tls is None else "https"
        self.url = "{}://{}:{}/v1".format(scheme, *runner.addresses[0][:2])
        self._ready.set()
        return runner
