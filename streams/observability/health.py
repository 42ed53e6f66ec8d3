"""A role's health over HTTP: `/healthz`, `/readyz`, `/metrics` and `/state`.

A separate thread serves it, so that it can report an event loop that hangs:

- `/healthz` 200 while the event loop runs and the watchdog sees progress; 503 with the reason otherwise. The
  second line is the version.
- `/readyz` 200 while the role works; 503 with what it waits for.
- `/metrics` in Prometheus' text format, `/state` as one JSON object for `labelstream status`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from socketserver import ThreadingMixIn
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import orjson
import structlog
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import make_wsgi_app
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from streams.core.errors import ConfigurationError
from streams.observability.collectors import release, role_metrics

log = structlog.get_logger()

_BEAT_SECONDS = 1.0
_SILENT_SECONDS = 30.0

Measure = Callable[[], Iterable[Metric]]


class Health:
    """The state that a role reports. Written by its event loop, read by the server's threads."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.waiting = "starting"  # what it waits for; empty while it works
        self.stalled = ""  # why the watchdog ended it
        self.measure: Measure = tuple
        self.state: Callable[[], dict[str, Any]] = dict
        self._beat = time.monotonic()

    def working(self) -> None:
        """Nothing is waited for any more."""
        self.waiting = ""

    def wait_for(self, what: str) -> None:
        """Report what is waited for."""
        self.waiting = what

    def sick(self) -> str:
        """Why the role is not healthy; empty if it is."""
        silent = time.monotonic() - self._beat
        if silent > _SILENT_SECONDS:
            return f"the event loop has not turned for {silent:.0f} s"
        return self.stalled

    async def beat(self) -> None:
        """Show that the event loop runs, until cancelled."""
        while True:
            self._beat = time.monotonic()
            await asyncio.sleep(_BEAT_SECONDS)


@contextlib.asynccontextmanager
async def served(health: Health, host: str, port: int, data: Path) -> AsyncIterator[str]:
    """Serve ``health`` and write its address below ``data``; yields the URL. ``port`` 0: a free one.

    Raises:
        ConfigurationError: the port is taken.
    """
    try:
        server = make_server(host.strip("[]"), port, application(health), _server_on(host), _Quiet)
    except OSError as error:
        raise ConfigurationError(
            f"the health endpoint cannot listen on {host}:{port}: {error.strerror}",
            setting="HEALTH_PORT",
            fix="set it to a free port, or to 0 for any",
        ) from error
    machine = socket.gethostname()
    shown = machine if host in ("0.0.0.0", "::", "[::]") else host
    if ":" in shown and not shown.startswith("["):
        shown = f"[{shown}]"
    url = f"http://{shown}:{server.server_port}"
    # With the host name: containers share the folder, and each of them is process 1.
    note = data / "run" / f"{health.role}-{machine}-{os.getpid()}.json"
    with contextlib.suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        # Whole from the start: others read the notes at any time.
        draft = note.with_suffix(".draft")
        draft.write_text(json.dumps({"role": health.role, "pid": os.getpid(), "url": url}))
        draft.replace(note)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True)
    thread.start()
    beating = asyncio.create_task(health.beat())
    log.info("health", url=f"{url}/healthz")
    try:
        yield url
    finally:
        beating.cancel()
        server.shutdown()
        server.server_close()
        with contextlib.suppress(OSError):
            note.unlink()


def run_notes(data: Path) -> list[Path]:
    """The notes of the roles below ``data``. Of several with one address only the newest: the others are of
    processes that were killed, and whoever answers there now is another one.
    """
    newest: dict[str, tuple[int, Path]] = {}
    for note in sorted((data / "run").glob("*.json")):
        with contextlib.suppress(OSError):
            written, text = note.stat().st_mtime_ns, note.read_text()
            url = str(note)  # of one that cannot be read
            with contextlib.suppress(ValueError, KeyError, TypeError):
                url = json.loads(text)["url"]
            newest[url] = max(newest.get(url, (0, note)), (written, note))
    return sorted(note for _, note in newest.values())


def application(health: Health) -> Callable[[dict[str, Any], Any], Iterable[bytes]]:
    """A WSGI application that serves ``health``."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(_Measures(health))
    metrics = make_wsgi_app(registry)

    def application(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            found: Iterable[bytes] = metrics(environ, start)
            return found
        if path == "/state":
            body = {"role": health.role, "pid": os.getpid(), "waiting": health.waiting, **health.state()}
            start("200 OK", [("Content-Type", "application/json")])
            return [orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS)]
        problem = {"/healthz": health.sick(), "/readyz": health.sick() or health.waiting}.get(path)
        status = "404 Not Found" if problem is None else "503 Service Unavailable" if problem else "200 OK"
        start(status, [("Content-Type", "text/plain; charset=utf-8")])
        lines = ["not found" if problem is None else problem or "ok"]
        if path == "/healthz":
            lines.append(f"labelstream {release()}")
        return ["".join(f"{line}\n" for line in lines).encode()]

    return application


class _Measures(Collector):
    def __init__(self, health: Health) -> None:
        self._health = health

    def collect(self) -> Iterator[Metric]:
        health = self._health
        yield from role_metrics(health.role, ready=not health.waiting, healthy=not health.sick())
        yield from health.measure()

    def describe(self) -> Iterable[Metric]:
        return ()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _ServerV6(_Server):
    address_family = socket.AF_INET6


def _server_on(host: str) -> type[_Server]:
    """For a name or an address of either kind. Of a name that has both, as `localhost`, it is IPv4."""
    found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    return _Server if any(kind == socket.AF_INET for kind, *_ in found) else _ServerV6


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Do not log it: probes come every few seconds."""
