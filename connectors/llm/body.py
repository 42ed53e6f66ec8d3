"""From the bytes of an answer with status 200 to a completion, or to the error that says what they are
instead.
"""

from __future__ import annotations

import zlib
from typing import Any

import cramjam

from connectors.llm.answer import Completion, completion_in, json_in
from connectors.llm.errors import FILTERED, REFUSED, from_status, shown
from streams.core.errors import (
    AnswerError,
    ConfigurationError,
    LabelstreamError,
    RefusedError,
    RetryableError,
)

LARGEST = 16 * 2**20
_GZIP = b"\x1f\x8b"
_INTO = {
    "br": cramjam.brotli.decompress_into,
    "zstd": cramjam.zstd.decompress_into,
}
# Reasons for an end that say that the server did not finish the answer.
_FAILED_ENDS = ("abort", "error", "cancelled")


def decompressed(content: bytes, encoding: str) -> bytes:
    """``content``, if a gateway has compressed it although this was not asked for.

    Raises:
        RetryableError: it is cut off, larger than 16 MB, or compressed in an unknown way.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity") and not content.startswith(_GZIP):
        return content
    for one in reversed(encoding.split(",")):
        content = _once_decompressed(content, one.strip())
    return content


def _once_decompressed(content: bytes, encoding: str) -> bytes:
    try:
        if encoding in _INTO:
            buffer = bytearray(LARGEST)
            return bytes(buffer[: _INTO[encoding](content, buffer)])
        if encoding in ("", "identity", "gzip", "x-gzip", "deflate"):
            return _inflated(content)
    except (cramjam.DecompressionError, zlib.error) as error:
        raise RetryableError(f"the endpoint's answer is compressed ({encoding}) and damaged") from error
    raise RetryableError(f"the endpoint's answer is compressed as {encoding[:40]}, which was not asked for")


def _inflated(content: bytes) -> bytes:
    """Gzip, zlib, or deflate without a header, as some servers send it."""
    try:
        stream = zlib.decompressobj(zlib.MAX_WBITS | 32)
        found = stream.decompress(content, LARGEST)
    except zlib.error:
        stream = zlib.decompressobj(-zlib.MAX_WBITS)
        found = stream.decompress(content, LARGEST)
    if not stream.eof:
        raise zlib.error("cut off or too large")
    return found


def completion_of(content: bytes, setting: str) -> Completion:
    """The completion in the body of an answer with status 200.

    Raises:
        RefusedError: the endpoint filtered the answer, or says so in an error object.
        AnswerError: the answer is empty.
        ConfigurationError: a web page or a stream of events instead of JSON.
        LabelstreamError: an error object with a status, as `from_status`; otherwise
        RetryableError: the answer was aborted, or the body is cut off or no completion.
    """
    try:
        found = completion_in(content)
    except RetryableError as error:
        raise _instead(content, setting) or _quoting(error, content) from error
    if found.finish_reason == "content_filter":
        raise RefusedError(f"{FILTERED}: {shown(_text(content))}", reason=REFUSED)
    if found.finish_reason in _FAILED_ENDS:
        raise RetryableError(
            f"the endpoint ended the answer with {found.finish_reason}: {shown(_text(content))}"
        )
    if not found.text and found.finish_reason != "length":
        raise AnswerError(f"the endpoint's answer is empty: {shown(_text(content))}")
    return found


def _quoting(error: RetryableError, content: bytes) -> RetryableError:
    """``error`` with the beginning of the body, if it is not quoted yet."""
    said, body = str(error), shown(_text(content))
    return RetryableError(f"{said}: {body}" if body and body[:40] not in said else said)


def _instead(content: bytes, setting: str) -> LabelstreamError | None:
    """What a body is that is no completion; None if it is just not understood."""
    start = content[:200].lstrip().lower()
    if start.startswith(b"<"):
        return ConfigurationError(
            f"the endpoint answers with a web page instead of JSON: {shown(_text(content))}",
            setting=setting,
            fix=f"set {setting} to the address of the API, which ends in /v1",
        )
    if start.startswith((b"data:", b"event:", b"id:", b": ")):
        return ConfigurationError(
            f"the endpoint answers with a stream of events where one JSON object was asked for: "
            f"{shown(_text(content))}",
            setting=setting,
            fix="turn off forced streaming in the server or the gateway",
        )
    try:
        answer = json_in(content)
    except RetryableError:
        return None
    error = answer.get("error") if isinstance(answer, dict) else None
    if isinstance(answer, dict) and answer.get("object") == "error":
        error = answer  # as vLLM wrote it
    if not error:
        return None
    status = _status_in(error)
    if status is not None:
        return from_status(status, {}, _text(content), setting)
    return RetryableError(f"the endpoint answers with an error and status 200: {shown(_text(content))}")


def _status_in(error: Any) -> int | None:
    """The HTTP status that an error object names."""
    code = error.get("code", error.get("status")) if isinstance(error, dict) else None
    try:
        status = int(code)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return status if 300 <= status < 600 else None


def _text(content: bytes) -> str:
    return content[:4000].decode("utf-8", "replace")
