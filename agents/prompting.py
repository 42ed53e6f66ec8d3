"""Put a query into a prompt as data, between delimiters that it cannot forge."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from importlib import resources
from typing import Any

import orjson

from agents.reading import without_thoughts

LONGEST = 4000
SHORTER = 1000  # for a model whose context is too small
_MARK = " […] "
_MOST_OBJECTS = 64
_TO_ESCAPE = re.compile("[<>&\u2028\u2029]")
_ESCAPES = str.maketrans({character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"})


@lru_cache
def prompt_text(name: str) -> str:
    """A packaged prompt."""
    return (resources.files("agents") / "prompts" / f"{name}.txt").read_text("utf-8")


def with_placeholders(prompt: str, *more: str) -> str:
    """``prompt`` with the packaged note of what a placeholder is, and ``more`` packaged notes on it."""
    notes = (prompt_text(name) for name in ("placeholders", *more))
    return "\n\n".join(part.rstrip() for part in (prompt, *notes)) + "\n"


def wrap_query(text: str, longest: int = LONGEST) -> str:
    """The user message of the prompt.

    The query is one JSON string in which `<`, `>` and `&` are escaped too, so no text can contain a closing
    tag or start a line of its own. Texts over ``longest`` characters are shortened in the middle, here and
    not in the message.
    """
    if len(text) > longest:
        half = (longest - len(_MARK)) // 2
        text = text[:half] + _MARK + text[-half:]
    try:
        encoded = orjson.dumps(text).decode()
    except TypeError:  # a lone surrogate
        encoded = orjson.dumps(text.encode("utf-8", "replace").decode()).decode()
    if _TO_ESCAPE.search(encoded):
        encoded = encoded.translate(_ESCAPES)
    return f"<query>\n{encoded}\n</query>"


def parse_answer(text: str, key: str) -> Any:
    """The value of ``key`` in the last JSON object of an answer that has this key; None if there is none.

    The object may be in a code fence, between words, or after a model's thoughts.
    """
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        found = None
    if isinstance(found, dict):
        return found.get(key)
    value = None
    text = without_thoughts(text)
    decoder = json.JSONDecoder()
    at = text.find("{")
    for _ in range(_MOST_OBJECTS):
        if at < 0:
            break
        try:
            found, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            value = found.get(key, value)
        at = text.find("{", end)
    return value
