"""What the body of an answer is: a completion, or which failure."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import cramjam
import pytest

from connectors.llm.body import LARGEST, completion_of, decompressed
from connectors.llm.errors import of_everyone, of_text
from streams.core.errors import (
    TOO_LONG,
    AccessError,
    AnswerError,
    ConfigurationError,
    LabelstreamError,
    OverloadedError,
    RefusedError,
    RetryableError,
    UnavailableError,
)
from tests.unit.connectors.llm.fakes import chat

SETTING = "LLM_LABELER_API_BASE"
TEXT = json.dumps(chat("ok" * 100)).encode()
RAW_DEFLATE = zlib.compressobj(wbits=-zlib.MAX_WBITS)


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        (TEXT, ""),
        (TEXT, "identity"),
        (gzip.compress(TEXT), "gzip"),
        (gzip.compress(TEXT), "GZIP "),
        (gzip.compress(TEXT), ""),  # a gateway that does not say so
        (zlib.compress(TEXT), "deflate"),
        (RAW_DEFLATE.compress(TEXT) + RAW_DEFLATE.flush(), "deflate"),
        (bytes(cramjam.brotli.compress(TEXT)), "br"),
        (bytes(cramjam.zstd.compress(TEXT)), "zstd"),
        (bytes(cramjam.brotli.compress(gzip.compress(TEXT))), "gzip, br"),
    ],
)
def test_compressed_bodies_are_read(content: bytes, encoding: str) -> None:
    assert decompressed(content, encoding) == TEXT


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        (gzip.compress(TEXT)[:-20], "gzip"),
        (TEXT, "gzip"),
        (TEXT, "br"),
        (TEXT, "zstd"),
        (TEXT, "compress"),
        (gzip.compress(bytes(LARGEST + 1)), "gzip"),
        (bytes(cramjam.brotli.compress(bytes(LARGEST + 1), level=1)), "br"),
    ],
)
def test_a_damaged_or_exploding_body_may_heal(content: bytes, encoding: str) -> None:
    with pytest.raises(RetryableError, match="compressed"):
        decompressed(content, encoding)


def body(found: Any) -> bytes:
    return found if isinstance(found, bytes) else json.dumps(found).encode()


@pytest.mark.parametrize(
    ("content", "kind", "said"),
    [
        (chat("", finish="abort"), RetryableError, "abort"),
        (chat("half", finish="error"), RetryableError, "error"),
        (chat("", finish="content_filter"), RefusedError, "filtered"),
        (chat("half", finish="content_filter"), RefusedError, "half"),
        (chat(""), AnswerError, "empty"),
        (chat(" \n"), AnswerError, "empty"),
        (chat(None), AnswerError, "empty"),
        ({"choices": None}, RetryableError, "not a completion"),
        ({"choices": []}, RetryableError, "not a completion"),
        ({"choices": [{"message": None}]}, RetryableError, "not a completion"),
        (b'{"choices": [{"mess', RetryableError, "cut off or not JSON: {.choices.: .{.mess"),
        (b"upstream connect error", RetryableError, "not JSON: upstream connect error"),
        (b"", RetryableError, "cut off"),
        ({"error": "out of memory"}, RetryableError, "out of memory"),
        ({"error": {"message": "busy", "code": 429}}, OverloadedError, "busy"),
        ({"error": {"message": "upstream", "code": "502"}}, UnavailableError, "upstream"),
        ({"error": {"message": "key", "code": 401}, "choices": None}, AccessError, "key"),
        ({"error": {"message": "moderated", "code": 400}}, RefusedError, "moderated"),
        ({"error": {"message": "no", "code": "invalid"}}, RetryableError, "status 200"),
        (b"<!DOCTYPE html><html>login</html>", ConfigurationError, "web page"),
        (b" <HTML>blocked</HTML>", ConfigurationError, "web page"),
        (b"<!-- portal --><div>blocked</div>", ConfigurationError, "web page"),
        ({"object": "error", "message": "no such model", "code": 404}, ConfigurationError, "no such model"),
        (b'data: {"choices": []}\n\ndata: [DONE]', ConfigurationError, "stream of events"),
        (b'event: message\ndata: {"choices": []}\n', ConfigurationError, "stream of events"),
    ],
)
def test_what_a_body_is_instead_of_a_completion(
    content: Any, kind: type[LabelstreamError], said: str
) -> None:
    with pytest.raises(LabelstreamError, match=said) as caught:
        completion_of(body(content), SETTING)
    assert type(caught.value) is kind


def test_an_answer_that_was_cut_off_by_its_limit_is_one() -> None:
    assert completion_of(body(chat("", finish="length")), SETTING).finish_reason == "length"


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (RefusedError("HTTP 400", reason="refused-by-model"), RefusedError, "refused-by-model"),
        (RefusedError("HTTP 413", reason=TOO_LONG), RefusedError, TOO_LONG),
        (AccessError("HTTP 403", setting="LLM_LABELER_API_KEY"), RefusedError, "refused-by-model"),
        (ConfigurationError("HTTP 302", setting=SETTING), RefusedError, "refused-by-model"),
        (AnswerError("the model answered 'x'"), AnswerError, "invalid-answer"),
        (OverloadedError("HTTP 429"), RefusedError, "gave-up"),
        (UnavailableError("reset"), RefusedError, "gave-up"),
        (RetryableError("time-out"), RefusedError, "gave-up"),
    ],
)
def test_the_error_of_a_text(error: LabelstreamError, kind: type, reason: str) -> None:
    found = of_text(error, 5)
    assert (type(found), found.reason, found.attempts) == (kind, reason, 5)
    assert str(error) in str(found)


@pytest.mark.parametrize(
    ("said", "setting", "fix"),
    [
        ("HTTP 400: max_tokens is too large: 99999", "LLM_LABELER_MODEL", "max_tokens"),
        ("HTTP 400: response_format is not supported", "LLM_LABELER_MODEL", "response_format"),
        ("HTTP 400: Budget has been exceeded", "LLM_LABELER_API_KEY", "budget"),
        ("HTTP 422: nope", "LLM_LABELER_MODEL", "words"),
    ],
)
def test_the_error_of_a_form_quotes_the_endpoint_and_names_a_setting(
    said: str, setting: str, fix: str
) -> None:
    found = of_everyone(RefusedError(said), SETTING)
    assert isinstance(found, ConfigurationError)
    assert said in str(found)
    assert found.setting == setting
    assert fix in found.fix
    for other in (AccessError("HTTP 401", setting="K"), UnavailableError("reset"), RetryableError("500")):
        assert of_everyone(other, SETTING) is other
