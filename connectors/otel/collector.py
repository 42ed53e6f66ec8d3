"""The collector that spans are sent to: requests to it, and what its answers mean."""

from __future__ import annotations

import gzip
import ssl
import time
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from urllib3 import BaseHTTPResponse, PoolManager, Timeout
from urllib3.exceptions import HTTPError
from urllib3.util import make_headers, parse_url

from connectors.otel.answer import rejected_spans
from streams.core.errors import AccessError, ConfigurationError, UnavailableError

SETTING = "OTEL_EXPORTER_OTLP_ENDPOINT"

# By OTLP's specification; others are final.
_AGAIN = (429, 502, 503, 504)


class Collector(NamedTuple):
    """Where spans are sent: the whole ``url``, and what each request has. ``ca_file``: a PEM file, as are
    ``cert_file`` and ``key_file``: those of the client, if it must show one. ``seconds``: for one request,
    all its tries included.
    """

    url: str
    headers: Mapping[str, str]
    ca_file: str | None
    seconds: float
    compressed: bool = False
    cert_file: str | None = None
    key_file: str | None = None

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


class CollectorAnswer(NamedTuple):
    """``problem``: empty if it took the request. ``again``: whether it may take it later, ``after`` so many
    seconds if it says so. ``status``: of HTTP; 0 for no answer. ``rejected``: how many spans it did not
    take of a request that it took, and ``reason``.
    """

    problem: str
    again: bool = False
    after: float | None = None
    status: int = 0
    rejected: int = 0
    reason: str = ""


class CollectorConnection:
    """Connects to one collector and nothing else: no proxy of the environment, no redirection."""

    def __init__(self, collector: Collector, version: str) -> None:
        """Connects to nothing yet. ``version`` of labelstream.

        Raises:
            ConfigurationError: its URL is none.
        """
        try:
            url = parse_url(collector.url)
            if not url.host:
                raise ValueError
        except (HTTPError, ValueError) as error:
            raise ConfigurationError(f"{SETTING} holds no URL", setting=SETTING) from error
        self._pool = PoolManager(
            ca_certs=collector.authorities, cert_file=collector.cert_file, key_file=collector.key_file
        ).connection_from_host(url.host, url.port, url.scheme)
        self._target = url.request_uri
        self._compressed = collector.compressed
        self._headers = {
            "content-type": "application/x-protobuf",
            "user-agent": f"labelstream/{version}",
            **(make_headers(basic_auth=unquote(url.auth)) if url.auth else {}),
            **({"content-encoding": "gzip"} if self._compressed else {}),
            **collector.headers,
        }

    def post(self, body: bytes, seconds: float) -> CollectorAnswer:
        """Send ``body``, and wait for the answer so long at most. Blocks."""
        if self._compressed:
            body = gzip.compress(body, 1)
        try:
            answer = self._pool.urlopen(
                "POST",
                self._target,
                body,
                self._headers,
                retries=False,
                redirect=False,
                timeout=Timeout(total=seconds),
            )
        except (HTTPError, OSError, ValueError) as error:
            return CollectorAnswer(f"{type(error).__name__}: {error}"[:200], again=True)
        status = answer.status
        if 200 <= status < 300:
            rejected, reason = rejected_spans(answer.data)
            return CollectorAnswer("", status=status, rejected=rejected, reason=reason[:200])
        return CollectorAnswer(f"HTTP status {status}", status in _AGAIN, _after(answer), status)

    def close(self) -> None:
        """Close what is open."""
        self._pool.close()


def _after(answer: BaseHTTPResponse) -> float | None:
    """Its header `Retry-After`, in seconds; None without one that can be read."""
    said = answer.headers.get("retry-after", "").strip()
    if said.isdecimal() and said.isascii():
        return float(said)
    try:
        when = parsedate_to_datetime(said)
    except (TypeError, ValueError, OverflowError):
        return None
    return max(0.0, (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - time.time())


def reach(collector: Collector, version: str) -> None:
    """Send no spans, to see whether the collector answers. Blocks.

    Raises:
        UnavailableError: it does not.
        AccessError, ConfigurationError: it does, and takes nothing.
    """
    connection = CollectorConnection(collector, version)
    answer = connection.post(b"", collector.seconds)  # a request without spans
    connection.close()
    if not answer.problem:
        return
    if not answer.status:
        problem = f"the collector at {collector.place} does not answer: {answer.problem}"
        raise UnavailableError(problem, setting=SETTING)
    problem = f"the collector at {collector.place} takes no traces: {answer.problem}"
    if answer.status in (401, 403):
        raise AccessError(
            problem,
            setting="OTEL_EXPORTER_OTLP_HEADERS",
            fix="set the header that the collector asks for",
        )
    if answer.status == 429 or answer.status >= 500:
        raise UnavailableError(problem, setting=SETTING)
    raise ConfigurationError(
        problem,
        setting=SETTING,
        fix="name its base URL for OTLP over HTTP, mostly port 4318",
    )
