"""Sends spans to a collector in a thread of its own, whatever becomes of it: the pipeline never waits.

What finds no room is dropped and counted. A collector that does not answer is told of once, until it answers
again. The thread takes a small share of one core at most, so that a flood of spans cannot hold up the rows.
"""

from __future__ import annotations

import random
import ssl
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

import structlog
import urllib3

from connectors.otel.encoding import encoded, rejected_in
from streams.ports.spans import Attributes, Span

log = structlog.get_logger()

_MOST_WAITING = 8192
_BATCH = 512
_GATHER_SECONDS = 1.0
# Of one core, on average: 5,000 spans a second and more.
_SHARE = 0.05
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_AGAIN = frozenset({429, 502, 503, 504})
CLOSE_SECONDS = 2.0


class Collector(NamedTuple):
    """Where spans are sent: the whole ``url``, and what each request has. ``ca_file``: a PEM file."""

    url: str
    headers: Mapping[str, str]
    ca_file: str | None
    seconds: float


class CollectorError(Exception):
    """The collector has not taken a request. ``again``: it may take the same one later."""

    def __init__(self, message: str, *, again: bool) -> None:
        super().__init__(message)
        self.again = again


class OtlpExporter:
    """Exports the spans of one process. ``counts``: spans `exported`, `dropped` (no room) and `failed`."""

    def __init__(
        self,
        collector: Collector,
        resource: Attributes,
        version: str,
        *,
        pause: Callable[[float], float] = lambda seconds: seconds * random.uniform(0.8, 1.2),
    ) -> None:
        self.counts: Counter[str] = Counter(exported=0, dropped=0, failed=0)
        self._http = OtlpHttp(collector)
        self._resource = resource
        self._version = version
        self._pause = pause
        self._waiting: deque[Span] = deque()
        self._wake = threading.Event()
        self._ending: float | None = None  # when it must have ended
        self._away = False
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    @property
    def full(self) -> bool:
        return len(self._waiting) >= _MOST_WAITING

    def take(self, span: Span) -> None:
        if len(self._waiting) >= _MOST_WAITING:
            self.counts["dropped"] += 1
        else:
            self._waiting.append(span)

    def dropped(self, count: int) -> None:
        self.counts["dropped"] += count

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Send what waits, for so many seconds at most. Blocks."""
        self._ending = time.monotonic() + seconds
        self._wake.set()
        self._thread.join(seconds + 0.5)
        self.counts["failed"] += len(self._waiting)
        self._waiting.clear()
        self._http.close()

    def _run(self) -> None:
        while True:
            before = time.thread_time()
            while self._waiting and self._left() > 0:
                self._send([self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))])
                if self._ending is None and len(self._waiting) < _BATCH:
                    break
                self._rest((time.thread_time() - before) / _SHARE)
                before = time.thread_time()
            if self._ending is not None:
                return
            self._wake.wait(max(_GATHER_SECONDS, (time.thread_time() - before) / _SHARE))

    def _rest(self, seconds: float) -> None:
        if self._ending is None:
            self._wake.wait(seconds)

    def _left(self) -> float:
        return float("inf") if self._ending is None else self._ending - time.monotonic()

    def _send(self, spans: list[Span]) -> None:
        """Until it is taken, or there is no use or no time."""
        body, pause = encoded(self._resource, self._version, spans), _FIRST_PAUSE
        while True:
            try:
                refused, why = self._http.send(body, self._left())
            except CollectorError as error:
                self._told_away(error)
                if error.again and self._left() > pause:
                    self._wake.wait(self._pause(pause))
                    pause = min(pause * 2, _LONGEST_PAUSE)
                    if self._ending is None or self._left() > 0:
                        continue
                self.counts["failed"] += len(spans)
                return
            self.counts["exported"] += len(spans) - refused
            self.counts["failed"] += refused
            if refused:
                self._told_refused(refused, why)
            elif self._away:
                self._away = False
                log.info("traces_sent_again")
            return

    def _told_away(self, error: CollectorError) -> None:
        if not self._away:
            self._away = True
            log.warning("traces_not_sent", reason=str(error), setting="OTEL_EXPORTER_OTLP_ENDPOINT")

    def _told_refused(self, count: int, why: str) -> None:
        if not self._away:
            self._away = True
            log.warning("traces_refused", spans=count, reason=why[:200])


class OtlpHttp:
    """Requests to one collector, and to nothing else: no proxy, no redirection."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        context = ssl.create_default_context(cafile=collector.ca_file)
        self._pool = urllib3.PoolManager(num_pools=1, maxsize=1, retries=False, ssl_context=context)

    def send(self, body: bytes, seconds: float = float("inf")) -> tuple[int, str]:
        """Send one request; how many spans were refused, and why.

        Raises:
            CollectorError: it was not taken.
        """
        limit = max(0.01, min(seconds, self._collector.seconds))
        try:
            answer = self._pool.request(
                "POST",
                self._collector.url,
                body=body,
                headers={"content-type": "application/x-protobuf", **self._collector.headers},
                timeout=urllib3.Timeout(total=limit),
                redirect=False,
            )
        except urllib3.exceptions.HTTPError as error:
            raise CollectorError(f"no answer: {type(error).__name__}", again=True) from error
        if not 200 <= answer.status < 300:
            raise CollectorError(f"HTTP status {answer.status}", again=answer.status in _AGAIN)
        return rejected_in(answer.data)

    def close(self) -> None:
        """Close the connection."""
        self._pool.clear()
