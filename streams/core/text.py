"""Cleaning: which characters a query may contain, and which queries are too short to label."""

from __future__ import annotations

import re
import unicodedata

# Bidirectional overrides and isolates, zero-width space and byte-order mark: invisible, and used to disguise
# text. The zero-width joiners stay: emoji and some scripts need them.
_INVISIBLE = re.compile("[\u200b\u2060\ufeff\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069\u00ad]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]+")
_SPACE = re.compile(r"\s+")
# Most queries: words of letters that NFKC does not change, with single blanks between.
_WORD = "[!-~А-Яа-яЁё«»—]"
_PLAIN = re.compile(f"{_WORD}++(?: {_WORD}++)*+")
# The same in the syntax of RE2, which ClickHouse uses.
PLAIN_RE2 = f"^{_WORD}+(?: {_WORD}+)*$"


def is_plain(text: str) -> bool:
    """Whether ``text`` is certainly clean, in NFKC and without white space other than single blanks
    inside.
    """
    return _PLAIN.fullmatch(text) is not None


def clean(text: str) -> str:
    """``text`` in NFKC, with control characters and white space replaced by single blanks; may be empty."""
    if is_plain(text):
        return text
    text = _CONTROL.sub(" ", text)
    text = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text))
    text = _SPACE.sub(" ", _CONTROL.sub(" ", text)).strip()
    # A text of only joiners and variation selectors counts as empty.
    return text if text.strip("\u200c\u200d\ufe0e\ufe0f ") else ""


def why_skipped(raw: bytes | None, cleaned: str, least_bytes: int) -> str | None:
    """Why a query is not labelled; None if it is. ``least_bytes`` as in ``length(text) > least_bytes``."""
    if raw is None:
        return "null-text"
    if len(raw) <= least_bytes:
        return "too-short"
    if not cleaned:
        return "empty"
    return None


def bounded(text: str, most: int) -> str:
    """At most ``most`` characters of ``text``."""
    return text if len(text) <= most else text[: most - 1] + "…"
