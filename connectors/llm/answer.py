"""Parse an endpoint's JSON: the answer's text, its tokens and their logprobs, as the different servers send
them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from streams.core.errors import REFUSAL, RetryableError

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TokenChance:
    """A token of the answer, its log probability, and those of its alternatives."""

    __slots__ = ("_entry",)

    def __init__(self, entry: dict[str, Any]) -> None:
        self._entry = entry

    @property
    def token(self) -> str:
        return _token(self._entry)

    @property
    def logprob(self) -> float:
        return _logprob(self._entry)

    @property
    def after_sampling(self) -> bool:
        """Whether they are llama-server's probabilities after grammar and temperature."""
        return "prob" in self._entry

    @property
    def top(self) -> tuple[tuple[str, float], ...]:
        found = self._entry.get("top_logprobs", self._entry.get("top_probs"))
        if not isinstance(found, list):
            return ()
        return tuple([(_token(one), _logprob(one)) for one in found if isinstance(one, dict)])


class Completion(NamedTuple):
    """An answer. ``tokens`` is None if the endpoint gives no logprobs."""

    text: str
    model: str
    finish_reason: str
    tokens: tuple[TokenChance, ...] | None
    output_tokens: int
    input_tokens: int = 0  # 0 if the endpoint does not report it


def completion_in(body: bytes) -> Completion:
    """The completion in a response's body.

    Raises:
        RetryableError: the body is truncated, not JSON, or not a completion.
    """
    answer = json_in(body)
    try:
        choice = answer["choices"][0]
        tokens = _tokens(choice.get("logprobs"))
        usage = answer.get("usage")
        used = usage.get("completion_tokens") if isinstance(usage, dict) else None
        read = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        message, finish = choice["message"], str(choice.get("finish_reason") or "")
        refusal = message.get("refusal")
        refused = isinstance(refusal, str) and bool(refusal.strip())
        return Completion(
            text=refusal if refused else _text(message, whole=finish != "length"),
            model=str(answer.get("model", "")),
            finish_reason=REFUSAL if refused else finish,
            tokens=tokens,
            output_tokens=used if isinstance(used, int) else len(tokens or ()),
            input_tokens=read if isinstance(read, int) else 0,
        )
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        shown = body[:200].decode("utf-8", "replace")
        raise RetryableError(f"the endpoint's answer is not a completion: {shown}") from error


def likeliest(found: Completion, options: Sequence[str]) -> Completion:
    """An answer that was sampled at temperature 1, with the option as its text that is told to be the most
    probable; with no text if no probabilities after sampling are told.
    """
    first = next(iter(found.tokens or ()), None)
    told: dict[str, float] = {}
    if first is not None and first.after_sampling:
        told = {text: one for text, one in (*first.top, (first.token, first.logprob)) if text in options}
    return found._replace(text=max(sorted(told), key=lambda text: told[text]) if told else "")


def json_in(body: bytes) -> Any:
    """The JSON value in ``body``.

    Raises:
        RetryableError: it is truncated or not JSON.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(body)  # servers in Python write -Infinity for an impossible token
    except (ValueError, RecursionError) as error:
        raise RetryableError("the endpoint's answer is cut off or not JSON") from error


def _text(message: dict[str, Any], *, whole: bool) -> str:
    """The content. Some servers put the whole answer of a reasoning model into its reasoning field: it is one
    if it is a JSON object. Otherwise the field holds thoughts, which are no answer.
    """
    for name in ("content", "reasoning_content", "reasoning") if whole else ("content",):
        content = message.get(name)
        if isinstance(content, list):
            content = "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
        if isinstance(content, str) and content.strip() and (name == "content" or _is_object(content)):
            return content
    if "content" in message:
        return ""
    raise KeyError("content")


def _is_object(text: str) -> bool:
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False


def _tokens(logprobs: Any) -> tuple[TokenChance, ...] | None:
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(content, list):
        return None
    return tuple(TokenChance(entry) for entry in content if isinstance(entry, dict)) or None


def _token(entry: dict[str, Any]) -> str:
    """The text of a token. Some servers give the vocabulary's own spelling, or a part of a character."""
    text = entry.get("token", "")
    if type(text) is not str:
        text = str(text)
    if text.isascii() and not text.startswith("<0x"):
        return text
    octets = entry.get("bytes")
    if isinstance(octets, list) and octets:
        try:
            return bytes(octets).decode()
        except (ValueError, TypeError):
            return text
    if (piece := _BYTE.fullmatch(text)) is not None:
        return chr(int(piece.group(1), 16))
    return text.replace("\u2581", " ").replace("\u0120", " ").replace("\u010a", "\n")


def _logprob(entry: dict[str, Any]) -> float:
    """A log probability; -infinity if none is given. llama-server gives probabilities after sampling."""
    value = entry.get("logprob")
    if type(value) is float and value == value:  # most; the rest costs three times as much
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return -math.inf if math.isnan(value) else value
    chance = entry.get("prob")
    if isinstance(chance, (int, float)) and not isinstance(chance, bool) and 0 < chance <= 1:
        return math.log(chance)
    return -math.inf
