"""What an endpoint's answer, or the lack of one, means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp

from connectors.llm.request import SYSTEM_ROLE
from streams.core.errors import (
    TOO_LONG,
    AccessError,
    AnswerError,
    ConfigurationError,
    LabelstreamError,
    OverloadedError,
    PermanentError,
    RefusedError,
    RetryableError,
    UnavailableError,
)

_TOO_LONG = re.compile(
    r"context[ _](?:length|size|window)|maximum (?:input |sequence )?length|too (?:long|large|many tokens)",
    re.IGNORECASE,
)
# Of aiohttp, and errors of sockets, TLS and URLs that it passes on unchanged.
FOREIGN = (
    aiohttp.ClientError,
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
)
_URL_ERRORS = (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError, UnicodeError)
_LATE = (TimeoutError, aiohttp.ServerTimeoutError)
_CONNECTING = (aiohttp.ConnectionTimeoutError,)
_LONGEST_AFTER = 60.0
_LONGEST_SHOWN = 1000
# The reason of a text's refusal, whatever status says it.
REFUSED = "refused-by-model"
FILTERED = "the endpoint filtered the answer"
# Parts of a request that endpoints name when they do not take them.
_ABOUT_PART = re.compile(
    r"max_(?:completion_)?tokens|response_format|json_schema|structured_outputs|guided_\w+|top_logprobs"
    r"|logprobs|temperature|system (?:role|message)",
    re.IGNORECASE,
)
_ABOUT_MONEY = re.compile(r"budget|quota|billing|credit|balance", re.IGNORECASE)


def translate(error: Exception, setting: str) -> LabelstreamError:
    """Our error for one of aiohttp or the system. All but a wrong URL may be temporary."""
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
    """Our error for a status other than 200, if the status alone is known; ``body`` without secrets.

    Whether the text, the form of the requests or the endpoint is the reason, is decided by what happens to
    other calls: `of_text` and `of_everyone` then say so.
    """
    text = f"HTTP {status}: {shown(body)}".rstrip(": ")
    prefix = setting.removesuffix("_API_BASE")
    after = retry_after(headers.get("retry-after"))
    if status in (401, 402, 403, 407):
        return AccessError(
            f"the endpoint denies access: {text}", setting=f"{prefix}_API_KEY", fix="set the right key"
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
        reason = TOO_LONG if status == 413 or _TOO_LONG.search(body) else REFUSED
        return RefusedError(f"the endpoint refuses the request: {text}", reason=reason)
    if status >= 500 and re.search(r"exceed\w*[ _]context|context[ _](?:length|size)", body, re.IGNORECASE):
        return RefusedError(f"the endpoint refuses the request: {text}", reason=TOO_LONG)
    if status >= 500 and SYSTEM_ROLE.search(body):  # of the model's chat template; no 400 on some servers
        return RefusedError(f"the endpoint refuses the request: {text}", reason=REFUSED)
    return RetryableError(f"the endpoint failed: {text}", after=after)


def shown(body: str) -> str:
    """The beginning of an answer's body, in one line."""
    return " ".join(body.split())[:_LONGEST_SHOWN]


def of_text(error: LabelstreamError, tries: int) -> PermanentError:
    """The error of a call that failed so often while others were answered that its text is the reason."""
    reason = "gave-up"
    if isinstance(error, PermanentError):
        reason = error.reason
    elif isinstance(error, ConfigurationError):
        reason = REFUSED
    kind = AnswerError if isinstance(error, AnswerError) else RefusedError
    return kind(f"only with this text, not with others: {error}", reason=reason, attempts=tries)


def of_everyone(error: LabelstreamError, setting: str) -> LabelstreamError:
    """The error of a call where every other call fails alike. A refusal, or an answer that cannot be read,
    then has to be mended by a person.
    """
    if not isinstance(error, PermanentError):
        return error
    text, prefix = str(error), setting.removesuffix("_API_BASE")
    if isinstance(error, AnswerError):  # what it quotes are the model's words
        named, fix = f"{prefix}_MODEL", "serve a model that answers as it is asked"
    elif text.startswith(FILTERED):
        named, fix = f"{prefix}_MODEL", "see the rules of the filter before the model"
    elif _ABOUT_MONEY.search(text):
        named, fix = f"{prefix}_API_KEY", "give its account a budget, or set another key"
    elif named_part := _ABOUT_PART.search(text):
        part = named_part[0]
        named, fix = f"{prefix}_MODEL", f"serve a model, or use a server, that takes {part} as it is sent"
    else:
        named, fix = f"{prefix}_MODEL", "see the endpoint's own words and its log"
    return ConfigurationError(f"the same for every text: {text}", setting=named, fix=fix)


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
