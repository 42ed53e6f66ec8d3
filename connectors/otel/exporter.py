"""Sends spans to a collector by OpenTelemetry's SDK, whatever becomes of it: the pipeline never waits.

The SDK gathers spans, sends them in a thread of its own and tries again for as long as
OTEL_EXPORTER_OTLP_TIMEOUT allows. What finds no room, and what is not taken, is counted. A collector that
does not answer is told of once, until it answers again.
"""

from __future__ import annotations

import logging
import ssl
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

import requests
import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult

from connectors.otel.readable import ReadableSpans
from streams.core.errors import AccessError, ConfigurationError, UnavailableError
from streams.ports.spans import Attributes, Span

log = structlog.get_logger()

SETTING = "OTEL_EXPORTER_OTLP_ENDPOINT"

_MOST_WAITING = 8192
_BATCH = 512
_GATHER_MILLISECONDS = 1000
CLOSE_SECONDS = 2.0


class Collector(NamedTuple):
    """Where spans are sent: the whole ``url``, and what each request has. ``ca_file``: a PEM file."""

    url: str
    headers: Mapping[str, str]
    ca_file: str | None
    seconds: float

    @property
    def place(self) -> str:
        """Host and port, to name it by; no user and no password."""
        return urlsplit(self.url).netloc.rpartition("@")[2]

    @property
    def authorities(self) -> str | None:
        """The certificates that its own is compared with: as for all other connections the system's, and not
        a list that a package brings.
        """
        return self.ca_file or ssl.get_default_verify_paths().cafile


class OtlpExporter:
    """Exports the spans of one process. ``counts``: spans `exported`, `dropped` (no room) and `failed`."""

    def __init__(self, collector: Collector, resource: Attributes, version: str) -> None:
        self.counts: Counter[str] = Counter(exported=0, dropped=0, failed=0)
        self._spans = ReadableSpans(resource, version)
        self._sender = CountingExporter(collector, self.counts)
        self._taken = 0
        self._batches = BatchSpanProcessor(
            self._sender,
            max_queue_size=_MOST_WAITING,
            schedule_delay_millis=_GATHER_MILLISECONDS,
            max_export_batch_size=_BATCH,
        )

    @property
    def full(self) -> bool:
        return self._taken - self._sender.begun >= _MOST_WAITING

    def take(self, span: Span) -> None:
        if self.full:
            self.counts["dropped"] += 1
        else:
            self._taken += 1
            self._batches.on_end(self._spans.readable(span))

    def dropped(self, count: int) -> None:
        self.counts["dropped"] += count

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Send what waits, for so many seconds at most. Blocks."""
        # The SDK's own limit is 30 s.
        ending = threading.Thread(target=self._batches.shutdown, name="traces-end", daemon=True)
        ending.start()
        ending.join(seconds)
        self._sender.shutdown()
        self.counts["failed"] = self._taken - self.counts["exported"]


class CountingExporter:
    """The SDK's exporter, to one collector and nothing else: no proxy of the environment, no redirection.

    ``begun``: how many spans it was given.
    """

    def __init__(self, collector: Collector, counts: Counter[str]) -> None:
        session = requests.Session()
        session.trust_env = False
        self._inner = OTLPSpanExporter(
            endpoint=collector.url,
            certificate_file=collector.authorities,
            headers=collector.headers,
            timeout=collector.seconds,
            session=session,
        )
        self._counts = counts
        self._notices = _Notices()
        self._closed = False
        self.begun = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.begun += len(spans)
        result = self._inner.export(spans)
        taken = result is SpanExportResult.SUCCESS
        self._counts["exported" if taken else "failed"] += len(spans)
        if taken:
            self._notices.taken()
        return result

    def shutdown(self) -> None:
        if not self._closed:
            self._closed = True
            self._inner.shutdown()
            self._notices.close()


class _Notices(logging.Handler):
    """Tells once what the SDK says about a collector that takes nothing, and when it takes spans again."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._away = False
        self._logger = logging.getLogger("opentelemetry")
        self._logger.addHandler(self)
        self._logger.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self._away:
            self._away = True
            reason = record.getMessage()[:200]
            log.warning("traces_not_sent", reason=reason, setting=SETTING)

    def taken(self) -> None:
        """A request was taken."""
        if self._away:
            self._away = False
            log.info("traces_sent_again")

    def close(self) -> None:
        """Let the SDK's words go to other handlers again."""
        self._logger.removeHandler(self)
        self._logger.propagate = True
        super().close()


def reach(collector: Collector) -> None:
    """Send no spans, to see whether the collector answers. Blocks.

    Raises:
        UnavailableError: it does not.
        AccessError, ConfigurationError: it does, and takes nothing.
    """
    with requests.Session() as session:
        session.trust_env = False
        try:
            answer = session.post(
                collector.url,
                data=b"",  # a request without spans
                headers={"content-type": "application/x-protobuf", **collector.headers},
                timeout=collector.seconds,
                allow_redirects=False,
                verify=collector.authorities or True,
            )
        except (requests.RequestException, OSError) as error:
            raise UnavailableError(
                f"the collector at {collector.place} does not answer: {type(error).__name__}", setting=SETTING
            ) from error
    status, what = answer.status_code, f"the collector at {collector.place} takes no traces: HTTP status"
    if status in (401, 403):
        raise AccessError(
            f"{what} {status}",
            setting="OTEL_EXPORTER_OTLP_HEADERS",
            fix="set the header that the collector asks for",
        )
    if status == 429 or status >= 500:
        raise UnavailableError(f"{what} {status}", setting=SETTING)
    if not 200 <= status < 300:
        raise ConfigurationError(
            f"{what} {status}",
            setting=SETTING,
            fix="name its base URL for OTLP over HTTP, mostly port 4318",
        )
