"""Parse an endpoint's JSON: the answer's text, its tokens and their logprobs, as the different servers send
them.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import orjson

from streams.core.errors import RetryableError


class TokenChance:
    """A token of the answer, its log probability, and those of its alternatives."""

    __slots__ = ("_entry",)

    def __init__(self, entry: dict[str, Any]) -> None:
        self._entry = entry

    @property
    def token(self) -> str:
        return str(self._entry.get("token", ""))

    @property
    def logprob(self) -> float:
        return _number(self._entry.get("logprob"))

    @property
    def top(self) -> tuple[tuple[str, float], ...]:
        found = self._entry.get("top_logprobs")
        if not isinstance(found, list):
            return ()
        return tuple(
            (str(one.get("token", "")), _number(one.get("logprob"))) for one in found if isinstance(one, dict)
        )


@dataclass(frozen=True, slots=True)
class Completion:
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
        return Completion(
            text=_text(choice["message"], whole=choice.get("finish_reason") != "length"),
            model=str(answer.get("model", "")),
            finish_reason=str(choice.get("finish_reason") or ""),
            tokens=tokens,
            output_tokens=used if isinstance(used, int) else len(tokens or ()),
            input_tokens=read if isinstance(read, int) else 0,
        )
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        shown = body[:200].decode("utf-8", "replace")
        raise RetryableError(f"the endpoint's answer is not a completion: {shown}") from error


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
    """The content. Some servers put the whole answer of a reasoning model into its reasoning field."""
    for name in ("content", "reasoning_content", "reasoning") if whole else ("content",):
        content = message.get(name)
        if isinstance(content, list):
            content = "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
        if isinstance(content, str) and content.strip():
            return content
    if "content" in message:
        return ""
    raise KeyError("content")


def _tokens(logprobs: Any) -> tuple[TokenChance, ...] | None:
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(content, list):
        return None
    return tuple(TokenChance(entry) for entry in content if isinstance(entry, dict)) or None


def _number(value: Any) -> float:
    """A log probability; anything invalid counts as impossible."""
    return value if isinstance(value, (int, float)) and not math.isnan(value) else -math.inf
