"""How a query is put into a prompt: as data, between delimiters that it cannot forge."""

from __future__ import annotations

import json
import re
from importlib import resources
from typing import Any

LONGEST = 4000
_MARK = " […] "
_FENCE = re.compile(r"```(?:json)?\s*(.*?)```", re.DOTALL)


def prompt_text(name: str) -> str:
    """A prompt that the package ships."""
    return (resources.files("agents") / "prompts" / f"{name}.txt").read_text("utf-8")


def wrap_query(text: str) -> str:
    """The user's part of the prompt.

    The query is one JSON string in which `<`, `>` and `&` are escaped too, so that no text can hold a
    closing tag or a line of its own. Texts over 4,000 characters lose their middle here, not in the message.
    """
    if len(text) > LONGEST:
        half = (LONGEST - len(_MARK)) // 2
        text = text[:half] + _MARK + text[-half:]
    encoded = json.dumps(text, ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        encoded = encoded.replace(character, f"\\u{ord(character):04x}")
    return f"<query>\n{encoded}\n</query>"


def parse_answer(text: str) -> Any:
    """The JSON object in an answer, also inside a code fence or between words; None if there is none."""
    candidates = [text.strip(), *(match.strip() for match in _FENCE.findall(text))]
    if "{" in text and "}" in text:
        candidates.append(text[text.index("{") : text.rindex("}") + 1])
    for candidate in candidates:
        try:
            found = json.loads(candidate)
        except (json.JSONDecodeError, RecursionError):
            continue
        if isinstance(found, dict):
            return found
    return None
