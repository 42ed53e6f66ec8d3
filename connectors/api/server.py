"""Serves an application in the running event loop; the role handles signals."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import uvicorn

from streams.core.errors import ConfigurationError, UnavailableError

_BACKLOG = 1024
# Requests in progress may take so long when the role ends.
_GRACE_SECONDS = 5


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listening(host: str, port: int) -> socket.socket:
    """A listening socket; ``port`` 0: any free one.

    Raises:
        ConfigurationError: the port is taken, or the host is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigurationError(
            f"the API cannot listen on {host}:{port}: {error.strerror or error}",
            setting="API_PORT",
            fix="set API_PORT to a free port, or to 0 for any, and API_HOST to an address of this machine",
        ) from error


@contextlib.asynccontextmanager
async def serving(
    app: Any, bound: socket.socket, ending: Callable[[], None]
) -> AsyncIterator[asyncio.Task[None]]:
    """Serve ``app`` on ``bound`` around a block; yields the task that serves. At the end ``ending`` is
    called, which ends streams, and then requests in progress are awaited.
    """
    server = _Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            # No proxy is trusted to name the client's address.
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
    )
    task = asyncio.create_task(server.serve(sockets=[bound]))
    try:
        while not server.started:
            if task.done():
                await task
                raise UnavailableError("the API's server did not start", setting="API_PORT")
            await asyncio.sleep(0.01)
        yield task
    finally:
        server.should_exit = True
        ending()
        await asyncio.wait([task])
