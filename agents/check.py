"""Check: is this text a variant of that one? Reasons are short and countable."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

from streams.messages import RejectedVariant
from streams.topics import normalise

_LEAK = re.compile(
    r"</?query>|<\|[^|]*\||\[/?INST\]|\"variants\"|^\s*[\[{].*[\]}]\s*$|перефразируй|формулировк",
    re.IGNORECASE | re.DOTALL,
)
_DIGITS = re.compile(r"\d{4,}")
_MAIL = re.compile(r"[\w.+-]+@[\w-]+\.[\w.]+")


def check_variants(source: str, variants: Iterable[str]) -> tuple[list[str], list[RejectedVariant]]:
    """Those of ``variants`` that may be published, and the others with the reason."""
    kept: list[str] = []
    rejected: list[RejectedVariant] = []
    seen = {normalise(source): "copy-of-source"}
    for variant in variants:
        text = " ".join(variant.split())
        reason = seen.get(normalise(text)) or why_not(source, text)
        if reason:
            rejected.append(RejectedVariant(text=text[:2000], reason=reason))
        else:
            kept.append(text)
            seen[normalise(text)] = "copy-of-another"
    return kept, rejected


def why_not(source: str, variant: str) -> str | None:
    """Why ``variant`` is no variant of ``source``; None if it is one."""
    if not variant:
        return "empty"
    if len(variant) > 3 * len(source) + 60:
        return "too-long"
    if len(variant) * 6 < len(source) and len(source) < 400:
        return "too-short"
    if _LEAK.search(variant) and not _LEAK.search(source):
        return "leaked-prompt"
    if scripts(variant) and scripts(source) and scripts(variant) != scripts(source):
        return "other-script"
    compact = re.sub(r"[\s()-]", "", source)
    if any(number not in compact for number in _DIGITS.findall(re.sub(r"[\s()-]", "", variant))):
        return "invented-digits"
    if any(mail not in source for mail in _MAIL.findall(variant)):
        return "invented-address"
    return None


def scripts(text: str) -> str:
    """The script of most letters: LATIN, CYRILLIC, ARABIC ..., empty without letters."""
    found = Counter(
        unicodedata.name(character, "?").split(" ")[0] for character in text if character.isalpha()
    )
    return found.most_common(1)[0][0] if found else ""
