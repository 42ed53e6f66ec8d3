"""Check whether one text is a variant of another. Reasons are short and countable."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

from agents.prompting import prompt_text
from streams.core.messages import RejectedVariant
from streams.core.text import clean
from streams.core.topics import normalise
from streams.privacy.entities import PLACEHOLDER

_LONGEST_REJECTED = 2000
_MARKS = re.compile(
    r"</?query>|<\|[^|]{0,60}\||\[/?INST\]|<</?SYS>>|\"variants\"|</?think>|перефразируй|формулировк",
    re.IGNORECASE,
)
_OBJECT = re.compile(r"[\[{].*[\]}]", re.DOTALL)
_NOT_ESSENTIAL = re.compile(r"[\W_]+")
_WORD = re.compile(r"\w+")
_LEAKED_WORDS = 6  # consecutive words of the prompt
_DIGIT, _DIGITS = re.compile(r"\d"), re.compile(r"\d{4,}")
_BETWEEN_DIGITS = re.compile(r"[\s()-]")
_MAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,64}\.[\w.]+")
_ONE_SCRIPT = {"HIRAGANA": "CJK", "KATAKANA": "CJK"}


def check_variants(source: str, variants: Iterable[str]) -> tuple[list[str], list[RejectedVariant]]:
    """Returns the cleaned ``variants`` that may be published, and the others with the reason."""
    kept: list[str] = []
    rejected: list[RejectedVariant] = []
    seen = {essence(source): "copy-of-source"}
    for variant in variants:
        text = clean(variant)
        core = essence(text)
        reason = (seen.get(core) if text else None) or why_not(source, text)
        if reason:
            rejected.append(RejectedVariant(text=text[:_LONGEST_REJECTED], reason=reason))
        else:
            kept.append(text)
            seen[core] = "copy-of-another"
    return kept, rejected


def essence(text: str) -> str:
    """The part of ``text`` that a variant must change: letters and digits, or all of it if there are none."""
    normal = normalise(text)
    return _NOT_ESSENTIAL.sub("", normal) or normal


def why_not(source: str, variant: str) -> str | None:
    """Why ``variant`` is no variant of ``source``; None if it is one."""
    if not variant:
        return "empty"
    if len(variant) > 3 * len(source) + 60:
        return "too-long"
    if len(variant) * 6 < min(len(source), 400):
        return "too-short"
    if leaks(source, variant):
        return "leaked-prompt"
    if placeholders(variant) != placeholders(source):
        return "placeholder-changed"
    written, expected = scripts(PLACEHOLDER.sub("", variant)), scripts(PLACEHOLDER.sub("", source))
    if written and expected and written != expected:
        return "other-script"
    if _DIGIT.search(variant):
        compact = _BETWEEN_DIGITS.sub("", source)
        if any(number not in compact for number in _DIGITS.findall(_BETWEEN_DIGITS.sub("", variant))):
            return "invented-digits"
    if "@" in variant and any(mail not in source for mail in _MAIL.findall(variant)):
        return "invented-address"
    return None


def placeholders(text: str) -> Counter[str]:
    """How often each placeholder of personal data stands in ``text``."""
    return Counter(match[0] for match in PLACEHOLDER.finditer(text))


def leaks(source: str, variant: str) -> bool:
    """Whether ``variant`` is JSON or has markers or words of the prompt, and ``source`` does not."""
    if marks := _MARKS.findall(variant):
        lowered = source.lower()
        if any(mark.lower() not in lowered for mark in marks):
            return True
    if _OBJECT.fullmatch(variant.strip()) and not _OBJECT.search(source):
        return True
    leaked = _runs(variant) & _prompt_runs()
    return bool(leaked and leaked - _runs(source))


# All variants of one source are checked one after the other.
@lru_cache(maxsize=16)
def _runs(text: str) -> frozenset[tuple[str, ...]]:
    words = _WORD.findall(text.lower())
    return frozenset(tuple(words[at : at + _LEAKED_WORDS]) for at in range(len(words) - _LEAKED_WORDS + 1))


@lru_cache
def _prompt_runs() -> frozenset[tuple[str, ...]]:
    return frozenset[tuple[str, ...]]().union(
        *(_runs(prompt_text(name)) for name in ("augment", "placeholders", "placeholders_kept"))
    )


@lru_cache(maxsize=16)
def scripts(text: str) -> str:
    """The script of most letters: LATIN, CYRILLIC, ARABIC ...; empty without letters."""
    found = Counter(map(_script, text))
    del found[""]
    if not found:
        return ""
    name = found.most_common(1)[0][0]
    return _ONE_SCRIPT.get(name, name)


@lru_cache(maxsize=4096)
def _script(character: str) -> str:
    """Empty if it is no letter."""
    return unicodedata.name(character, "?").split(" ")[0] if character.isalpha() else ""
