"""Whatever aiohttp or the system raise, and whatever status is answered, becomes one of our errors."""

from __future__ import annotations

import asyncio
import inspect
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from yarl import URL

from connectors.llm.errors import FOREIGN, from_status, retry_after, translate
from connectors.llm.http import Http
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

SETTING = "LLM_LABELER_API_BASE"


def kinds_of(*roots: type[BaseException]) -> list[type[BaseException]]:
    found: set[type[BaseException]] = set()
    waiting = list(roots)
    while waiting:
        kind = waiting.pop()
        if kind not in found:
            found.add(kind)
            waiting += kind.__subclasses__()
    return sorted(found, key=lambda kind: f"{kind.__module__}.{kind.__name__}")


def example(kind: type[BaseException]) -> Exception:
    """An instance, whatever its constructor asks for."""
    key = ConnectionKey("127.0.0.1", 1, True, True, None, None, None)
    values: dict[str, Any] = {
        "connection_key": key,
        "os_error": OSError(111, "refused"),
        "certificate_error": ssl.SSLCertVerificationError("self-signed certificate"),
        "request_info": aiohttp.RequestInfo(URL("http://a"), "GET", {}, URL("http://a")),  # type: ignore[arg-type]
        "history": (),
        "expected": b"a",
        "got": b"b",
        "host": "h",
        "port": 1,
        "path": "p",
    }
    if issubclass(kind, UnicodeDecodeError):
        return kind("utf-8", b"\xff", 0, 1, "bad")
    if issubclass(kind, UnicodeEncodeError):
        return kind("ascii", "ы", 0, 1, "bad")
    if issubclass(kind, UnicodeTranslateError):
        return kind("ы", 0, 1, "bad")
    try:
        signature = inspect.signature(kind)
    except ValueError:  # written in C
        return kind("text")  # type: ignore[return-value]
    asks = [
        parameter
        for parameter in signature.parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    arguments = {parameter.name: values.get(parameter.name, "text") for parameter in asks}
    positional = [arguments.pop(p.name) for p in asks if p.kind is p.POSITIONAL_ONLY]
    made = kind(*positional, **arguments)
    assert isinstance(made, Exception)
    return made


LIBRARY_ERRORS = [
    kind for kind in kinds_of(aiohttp.ClientError) if kind.__module__.split(".")[0] == "aiohttp"
] + [
    ConnectionResetError,
    ConnectionRefusedError,
    BrokenPipeError,
    TimeoutError,
    asyncio.TimeoutError,
    OSError,
    ssl.SSLError,
    ssl.SSLCertVerificationError,
    UnicodeError,
    ValueError,
    EOFError,
    RuntimeError,
]


@pytest.mark.parametrize("kind", LIBRARY_ERRORS, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
async def test_every_error_of_the_libraries_becomes_ours(
    kind: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the real client: the session raises it."""
    raised = example(kind)
    assert isinstance(raised, FOREIGN)

    async def fail(*_: Any, **__: Any) -> None:
        raise raised

    monkeypatch.setattr(aiohttp.ClientSession, "_request", fail)
    endpoint = Http("http://127.0.0.1:9/v1", setting=SETTING, api_key=None, connections=1, ca_file=None)
    try:
        with pytest.raises(LabelstreamError) as caught:
            await endpoint.ask("GET", "/models", seconds=5.0)
    finally:
        await endpoint.close()
    assert not isinstance(caught.value, RefusedError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "ours"),
    [
        (aiohttp.ClientConnectorError, UnavailableError),
        (aiohttp.ConnectionTimeoutError, UnavailableError),
        (aiohttp.ClientPayloadError, UnavailableError),
        (aiohttp.ServerDisconnectedError, UnavailableError),
        (aiohttp.SocketTimeoutError, RetryableError),
        (TimeoutError, RetryableError),
        (aiohttp.NonHttpUrlClientError, ConfigurationError),
        (aiohttp.InvalidUrlClientError, ConfigurationError),
        (ssl.SSLCertVerificationError, UnavailableError),
    ],
)
def test_what_an_error_means(kind: type[BaseException], ours: type[LabelstreamError]) -> None:
    assert type(translate(example(kind), SETTING)) is ours


def test_a_certificate_that_is_not_accepted_names_the_setting() -> None:
    error = translate(OSError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed"), SETTING)
    assert isinstance(error, AccessError)
    assert error.setting == "LLM_CA_CERT"


@pytest.mark.parametrize(
    ("code", "ours", "setting"),
    [
        (400, RefusedError, None),
        (401, AccessError, "LLM_LABELER_API_KEY"),
        (403, AccessError, "LLM_LABELER_API_KEY"),
        (404, ConfigurationError, "LLM_LABELER_MODEL"),
        (307, ConfigurationError, "LLM_LABELER_API_BASE"),
        (408, RetryableError, None),
        (413, RefusedError, None),
        (422, RefusedError, None),
        (425, RetryableError, None),
        (429, OverloadedError, None),
        (500, RetryableError, None),
        (502, UnavailableError, "LLM_LABELER_API_BASE"),
        (503, OverloadedError, None),
        (504, UnavailableError, "LLM_LABELER_API_BASE"),
        (520, RetryableError, None),
    ],
)
def test_what_a_status_means(code: int, ours: type[LabelstreamError], setting: str | None) -> None:
    error = from_status(code, {}, "<html>\n  no\n</html>", SETTING)
    assert type(error) is ours
    assert getattr(error, "setting", None) == setting
    assert f"HTTP {code}: <html> no </html>" in str(error)


@pytest.mark.parametrize(
    ("code", "body"),
    [
        (400, "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens"),
        (
            400,
            '{"error":{"type":"exceed_context_size_error","message":"exceeds the available context size"}}',
        ),
        (400, "The input (9000 tokens) is longer than the model's context length (8192 tokens)."),
        (413, "Request Entity Too Large"),
        (422, "Input validation error: `inputs` must have less than 1024 tokens; too many tokens"),
        (500, "the request exceeds the available context size. try increasing it"),
    ],
)
def test_a_text_too_long_for_the_model_is_told_apart(code: int, body: str) -> None:
    error = from_status(code, {}, body, SETTING)
    assert isinstance(error, RefusedError)
    assert error.reason == TOO_LONG


def test_retry_after_is_a_number_or_a_date() -> None:
    assert retry_after("7") == 7
    assert retry_after("0.5") == 0.5
    assert retry_after("100000") == 60
    assert retry_after("-5") == 0
    for nothing in (None, "", "soon", "nan", "Wed, 99 Foo 2026"):
        assert retry_after(nothing) is None
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    found = retry_after(date)
    assert found is not None
    assert 15 < found <= 20
    assert retry_after(format_datetime(datetime.now(UTC) - timedelta(hours=1))) == 0


def test_the_status_says_when_to_come_back() -> None:
    error = from_status(429, {"retry-after": "3"}, "", SETTING)
    assert isinstance(error, OverloadedError)
    assert error.after == 3
