"""What an endpoint's answer, or its silence, means."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from streams.errors import (
    AccessError,
    ConfigurationError,
    LabelstreamError,
    OverloadedError,
    RefusedError,
    RetryableError,
    UnavailableError,
)


def translate(
    error: httpx.HTTPError | httpx.InvalidURL | httpx.StreamError, setting: str
) -> LabelstreamError:
    """Our error for one of httpx's. All but a wrong URL can heal."""
    text = f"{type(error).__name__}: {error}".rstrip(": ")
    if isinstance(error, (httpx.InvalidURL, httpx.UnsupportedProtocol)):
        return ConfigurationError(f"the URL of the endpoint cannot be used: {text}", setting=setting)
    if "CERTIFICATE_VERIFY_FAILED" in text or "certificate" in text.lower():
        return AccessError(
            f"the endpoint's certificate is not accepted: {text}",
            setting="LLM_CA_CERT",
            fix="point it at the CA that signed the certificate",
        )
    if isinstance(error, (httpx.ReadTimeout, httpx.WriteTimeout)):
        return RetryableError(f"the endpoint did not answer in time: {text}")
    return UnavailableError(f"the endpoint does not answer: {text}", setting=setting)


def from_status(response: httpx.Response, setting: str) -> LabelstreamError:
    """Our error for a status that is not 200.

    A wrong key or model is a person's to mend and no message's fault; 400, 413 and 422 are about this
    very request; everything else may heal.
    """
    body = " ".join(response.text.split())[:300]
    text = f"HTTP {response.status_code}: {body}"
    prefix = setting.removesuffix("_API_BASE")
    if response.status_code in (401, 403):
        return AccessError(
            f"the endpoint refuses the key: {text}", setting=f"{prefix}_API_KEY", fix="set the right key"
        )
    if response.status_code == 404:
        return ConfigurationError(
            f"the endpoint does not know the model or the path: {text}",
            setting=f"{prefix}_MODEL",
            fix=f"`labelstream check` lists its models; {setting} should end in /v1",
        )
    if response.status_code in (429, 503):
        return OverloadedError(f"the endpoint has no room: {text}", after=retry_after(response))
    if response.status_code in (400, 413, 422):
        return RefusedError(f"the endpoint refuses the request: {text}", reason="refused-by-model")
    return RetryableError(f"the endpoint failed: {text}", after=retry_after(response))


def retry_after(response: httpx.Response) -> float | None:
    """Seconds that `Retry-After` asks for, as a number or a date; at most a minute is believed."""
    value = response.headers.get("retry-after")
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return None
    return min(max(seconds, 0.0), 60.0)
