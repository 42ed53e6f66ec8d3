"""Sends spans to a collector, whatever becomes of it: the pipeline never waits.

Spans are encoded at once, gathered, and sent by a thread of its own, which tries again for as long as
OTEL_EXPORTER_OTLP_TIMEOUT allows. What finds no room, and what is not taken, is counted. A collector that
does not answer, or is too slow, is told of once, until it is as it should be again.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter, deque

import structlog

from connectors.otel.collector import SETTING, Collector, CollectorConnection
from connectors.otel.encoding import SpanEncoding
from streams.ports.spans import Attributes, Span

log = structlog.get_logger()

_MOST_WAITING = 8192
_BATCH = 512
_GATHER_MILLISECONDS = 1000
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
# A collector that asks for more may have a wrong clock.
_LONGEST_REST = 300.0
CLOSE_SECONDS = 2.0


class OtlpExporter:
    """Exports the spans of one process. ``counts``: spans `exported`, `dropped` (no room) and `failed`."""

    def __init__(self, collector: Collector, resource: Attributes, version: str) -> None:
        """
        Raises:
            ConfigurationError: as `CollectorConnection`.
        """
        self.counts: Counter[str] = Counter(exported=0, dropped=0, failed=0)
        self._connection = CollectorConnection(collector, version)
        self._seconds = collector.seconds
        self._encoding = SpanEncoding(resource, version)
        self._waiting: deque[bytes] = deque()
        self._taken = 0
        self._away = False  # the collector took nothing the last time
        self._slow = False  # it takes them, and fewer than there are
        self._told_rejected = False
        self._rests_until = 0.0  # it asked for no request before
        self._enough = threading.Event()  # spans for a request wait, or all are to be sent
        self._ending = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    @property
    def full(self) -> bool:
        return len(self._waiting) >= _MOST_WAITING

    def take(self, span: Span) -> None:
        waiting = self._waiting
        if len(waiting) >= _MOST_WAITING:
            self.dropped(1)
            return
        self._taken += 1
        try:
            waiting.append(self._encoding.span(span))
        except Exception as error:  # it is not the work that failed
            self.counts["failed"] += 1
            log.error("span_not_encoded", name=span.name, error=repr(error))
            return
        if len(waiting) >= _BATCH and not self._enough.is_set():
            self._enough.set()

    def dropped(self, count: int) -> None:
        self.counts["dropped"] += count
        if self.full and not self._slow:
            self._slow = True
            log.warning("spans_dropped", reason=f"{_MOST_WAITING} wait for the collector", setting=SETTING)

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Send what waits, for so many seconds at most. Blocks."""
        self._ending = True
        self._enough.set()
        self._thread.join(seconds)
        self._ended.set()
        self._connection.close()
        self.counts["failed"] = self._taken - self.counts["exported"]

    def _run(self) -> None:
        while not self._ending:
            self._enough.wait(_GATHER_MILLISECONDS / 1000)
            self._enough.clear()
            self._send()
            while len(self._waiting) >= _BATCH:
                self._send()
        while self._waiting and not self._ended.is_set():
            self._send()

    def _send(self) -> None:
        """Send the first of those that wait."""
        spans = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
        if spans:
            failed = min(self._failed(self._encoding.request(spans), len(spans)), len(spans))
            self.counts["exported"] += len(spans) - failed
            if not self._ended.is_set():  # else they are counted
                self.counts["failed"] += failed
            if len(self._waiting) <= _MOST_WAITING // 2:
                self._slow = False

    def _failed(self, body: bytes, spans: int) -> int:
        """How many of its ``spans`` were not taken, at the first try or a later one."""
        rest = self._rests_until - time.monotonic()
        if rest > 0 and self._ended.wait(rest):
            return spans
        ends = time.monotonic() + self._seconds
        for tried in itertools.count():
            answer = self._connection.post(body, max(ends - time.monotonic(), 0.001))
            if not answer.problem:
                if self._away:
                    self._away = False
                    log.info("traces_sent_again")
                if answer.rejected and not self._told_rejected:
                    self._told_rejected = True
                    log.warning("spans_rejected", reason=answer.reason, setting=SETTING)
                return answer.rejected
            if tried == 0 and answer.again and not answer.status:
                continue  # mostly the collector had closed a connection that was kept
            if not self._away:
                self._away = True
                log.warning("traces_not_sent", reason=answer.problem, setting=SETTING)
            pause = min(_FIRST_PAUSE * 2**tried, _LONGEST_PAUSE) * random.uniform(0.8, 1.2)
            if answer.again and answer.after is not None:
                pause = max(pause, answer.after)  # many say 0 when they have too much to do
                self._rests_until = time.monotonic() + min(pause, _LONGEST_REST)
            if not answer.again or time.monotonic() + pause > ends or self._ended.wait(pause):
                return spans
        raise AssertionError  # never: the tries end by time
