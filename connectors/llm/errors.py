"""What an endpoint's answer, or the lack of one, means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp
import httpx

from streams.core.errors import (
    TOO_LONG,
    AccessError,
    ConfigurationError,
    LabelstreamError,
    OverloadedError,
    RefusedError,
    RetryableError,
    UnavailableError,
)

_TOO_LONG = re.compile(
    r"context[ _](?:length|size|window)|maximum (?:input |sequence )?length|too (?:long|large|many tokens)",
    re.IGNORECASE,
)
# Errors of sockets, TLS and URLs that httpx's transport over aiohttp passes on unchanged.
FOREIGN = (
    httpx.HTTPError,
    httpx.InvalidURL,
    httpx.StreamError,
    httpx.CookieConflict,
    aiohttp.ClientError,
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
)
_URL_ERRORS = (httpx.InvalidURL, httpx.UnsupportedProtocol, aiohttp.InvalidURL, UnicodeError)
_LATE = (
    TimeoutError,
    httpx.ReadTimeout,
    httpx.WriteTimeout,
    aiohttp.ServerTimeoutError,
)
_CONNECTING = (httpx.ConnectTimeout, httpx.PoolTimeout, aiohttp.ConnectionTimeoutError)
_LONGEST_AFTER = 60.0


def translate(error: Exception, setting: str) -> LabelstreamError:
    """Our error for one of httpx, aiohttp or the system. All but a wrong URL may be temporary."""
    text = f"{type(error).__name__}: {error}".rstrip(": ")
    if isinstance(error, _URL_ERRORS):
        return ConfigurationError(
            f"the URL of the endpoint cannot be used: {text}",
            setting=setting,
            fix=f"set {setting} to a URL such as http://llm.internal:8000/v1",
        )
    if "certificate is not valid for" in text:
        return AccessError(
            f"the endpoint's certificate is for another name: {text}",
            setting=setting,
            fix=f"set {setting} to a name that the certificate holds",
        )
    if "CERTIFICATE_VERIFY_FAILED" in text or "certificate" in text.lower():
        return AccessError(
            f"the endpoint's certificate is not accepted: {text}",
            setting="LLM_CA_CERT",
            fix="point it at the CA that signed the certificate",
        )
    if is_late(error):
        return RetryableError(f"the endpoint did not answer in time: {text}")
    return UnavailableError(f"the endpoint does not answer: {text}", setting=setting)


def is_late(error: BaseException | None) -> bool:
    """Whether the connection was established and the answer did not come in time."""
    return isinstance(error, _LATE) and not isinstance(error, _CONNECTING)


def from_status(status: int, headers: Mapping[str, str], body: str, setting: str) -> LabelstreamError:
    """Our error for a status other than 200; ``body`` without secrets.

    A wrong key, model or address has to be corrected by a person and is no fault of the message. 400, 413 and
    422 concern this request. Time-outs, overload and 5xx may be temporary.
    """
    text = f"HTTP {status}: {' '.join(body.split())[:300]}".rstrip(": ")
    prefix = setting.removesuffix("_API_BASE")
    after = retry_after(headers.get("retry-after"))
    if status in (401, 402, 403, 407):
        return AccessError(
            f"the endpoint refuses the key: {text}", setting=f"{prefix}_API_KEY", fix="set the right key"
        )
    if 300 <= status < 400:
        return ConfigurationError(
            f"the endpoint sends us elsewhere, and redirects are not followed: {text}",
            setting=setting,
            fix=f"set {setting} to the final address",
        )
    if status in (404, 405, 410):
        return ConfigurationError(
            f"the endpoint does not know the model or the path: {text}",
            setting=f"{prefix}_MODEL",
            fix=f"`labelstream check` lists its models; {setting} should end in /v1",
        )
    if status in (429, 503):
        return OverloadedError(f"the endpoint has no room: {text}", after=after)
    if status in (502, 504):
        return UnavailableError(
            f"the gateway cannot reach the endpoint: {text}", setting=setting, after=after
        )
    if 400 <= status < 500 and status not in (408, 409, 425):
        reason = TOO_LONG if status == 413 or _TOO_LONG.search(body) else "refused-by-model"
        return RefusedError(f"the endpoint refuses the request: {text}", reason=reason)
    if status >= 500 and re.search(r"exceed\w*[ _]context|context[ _](?:length|size)", body, re.IGNORECASE):
        return RefusedError(f"the endpoint refuses the request: {text}", reason=TOO_LONG)
    return RetryableError(f"the endpoint failed: {text}", after=after)


def retry_after(value: str | None) -> float | None:
    """The seconds in `Retry-After`, given as a number or a date; at most a minute is accepted."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            then = parsedate_to_datetime(value)
        except (ValueError, TypeError):
            return None
        if then.tzinfo is None:
            then = then.replace(tzinfo=UTC)
        seconds = (then - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), _LONGEST_AFTER) if seconds == seconds else None
