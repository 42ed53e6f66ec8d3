"""Detects the encoding of a text file: UTF-8, UTF-16, UTF-32 or a code page."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import cast

from connectors.files.questions import Findings
from streams.ports.files import CODE_PAGES, Encoding

_CHUNK = 1_000_000
_SAMPLE = 200_000
_UTF8_PAIR = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_HIGH = re.compile(rb"[\x80-\xff]+")
# The letters of Russian texts, most frequent first: each is about a sixth rarer than the one before it.
_LETTERS = {letter: rank for rank, letter in enumerate("оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфъё")}
_STRANGE = 60
_CASE_TURNS = re.compile("[а-яё][А-ЯЁ]")


def encoding_of(path: Path, findings: Findings) -> Encoding:
    """The file's encoding, by its first bytes, by which encodings it is valid in, and by the frequency of
    letters. A code page is never certain.

    Raises:
        OSError.
    """
    with path.open("rb") as file:
        start = file.read(_SAMPLE)
    if start.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    if wide := wide_of(start):
        return wide
    high = _high_bytes(path)
    if not high:
        return "utf-8"
    runs = _HIGH.findall(high)
    # A few broken rows do not change the encoding.
    if sum(len(found) for found in _UTF8_PAIR.findall(high)) >= 0.8 * sum(len(found) for found in runs):
        return "utf-8"
    ranked = sorted(CODE_PAGES, key=lambda page: _likeness(high, page), reverse=True)
    best = ranked[0]
    shown = {page: _shown(runs, page) for page in ranked}
    # Letters with marks stand alone in Western words; Cyrillic words consist of them.
    western = sum(len(run) for run in runs) < 1.7 * len(runs)
    if western or _likeness(high, best) < -25:
        choices = ["cp1252", *ranked] if western else ranked
        return cast(Encoding, findings.ask("encoding", choices, choices[0], "no code page", shown=shown))
    near = [page for page in ranked[1:] if _likeness(high, page) > _likeness(high, best) - 1]
    if any(shown[page] != shown[best] for page in near):
        return cast(Encoding, findings.ask("encoding", ranked, best, "code pages", shown=shown))
    findings.warn("code page", page=best)
    return best


def wide_of(start: bytes) -> Encoding | None:
    """UTF-16 or UTF-32, by the byte order mark, or without one if every other byte is that of a Latin or
    Cyrillic code page.
    """
    if start.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    even, odd = start[0::2], start[1::2]
    if len(start) < 8 or b"\x00" not in start:
        return None
    pages = (0, 4)
    if sum(byte in pages for byte in odd) > 0.9 * len(odd):
        return "utf-16-le"
    if sum(byte in pages for byte in even) > 0.9 * len(even):
        return "utf-16-be"
    return None


def _high_bytes(path: Path) -> bytes:
    """Empty if the file is UTF-8; otherwise lines with bytes above 127 from anywhere in the file, up to a
    limit.
    """
    decoder, valid, found = codecs.getincrementaldecoder("utf-8")(), True, b""
    with path.open("rb") as file:
        while valid or len(found) < _SAMPLE:
            chunk = file.read(_CHUNK)
            try:
                decoder.decode(chunk, not chunk)
            except UnicodeDecodeError:
                valid = False
            if not chunk:
                break
            if len(found) < _SAMPLE and not chunk.isascii():
                found += b" ".join(line for line in chunk.split(b"\n") if not line.isascii())[:_SAMPLE]
    return b"" if valid else found


def _likeness(sample: bytes, encoding: str) -> float:
    """How similar to Russian it is: the logarithm of the letters' frequency a letter, up to a factor."""
    text = sample.decode(encoding, "replace")
    high = "".join(character for character in text if not character.isascii())
    score = sum(character.islower() for character in high) - sum(
        _LETTERS.get(character, _STRANGE) for character in high.lower()
    )
    # In the wrong encoding letters have the other case.
    return (score - _STRANGE * len(_CASE_TURNS.findall(text))) / max(1, len(high))


def _shown(runs: list[bytes], encoding: str) -> str:
    return " ".join(run.decode(encoding, "replace") for run in runs[:4])[:60]
