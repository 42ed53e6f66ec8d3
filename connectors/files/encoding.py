"""Detects the encoding of a text file: UTF-8, UTF-16, Windows-1251 or KOI8-R."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from streams.ports.files import Encoding

_CHUNK = 1_000_000
_SAMPLE = 200_000
_UTF8_PAIR = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_HIGH = re.compile(rb"[\x80-\xff]+")
# The letters of Russian texts, most frequent first: each is about a sixth rarer than the one before it.
_LETTERS = {letter: rank for rank, letter in enumerate("оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфъё")}
_STRANGE = 60
_CASE_TURNS = re.compile("[а-яё][А-ЯЁ]")


def encoding_of(path: Path) -> Encoding:
    """The file's encoding, by its first bytes, by which encodings it is valid in, and by the frequency of
    letters.

    Raises:
        OSError.
    """
    with path.open("rb") as file:
        start = file.read(_SAMPLE)
    if start.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    if wide := utf16_of(start):
        return wide
    high = _high_bytes(path)
    if not high:
        return "utf-8"
    # A few broken rows do not change the encoding.
    whole = sum(len(found) for found in _UTF8_PAIR.findall(high))
    if whole >= 0.8 * sum(len(found) for found in _HIGH.findall(high)):
        return "utf-8"
    return "cp1251" if _likeness(high, "cp1251") >= _likeness(high, "koi8-r") else "koi8-r"


def utf16_of(start: bytes) -> Encoding | None:
    """UTF-16, by its byte order mark, or without one if every other byte is that of a Latin or Cyrillic code
    page.
    """
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
    decoder = codecs.getincrementaldecoder("utf-8")()
    valid, found, size = True, list[bytes](), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            if valid:
                try:
                    decoder.decode(chunk)
                except UnicodeDecodeError:
                    valid = False
            if size < _SAMPLE and not chunk.isascii():
                part = b" ".join(line for line in chunk.split(b"\n") if not line.isascii())[:_SAMPLE]
                found.append(part)
                size += len(part)
            if not valid and size >= _SAMPLE:
                break
    if valid:
        try:
            decoder.decode(b"", True)
        except UnicodeDecodeError:
            valid = False
    return b"" if valid else b" ".join(found)


def _likeness(sample: bytes, encoding: str) -> float:
    """How similar to Russian it is: the logarithm of the letters' frequency, up to a factor."""
    high = "".join(character for character in sample.decode(encoding, "replace") if not character.isascii())
    score = -sum(_LETTERS.get(character, _STRANGE) for character in high.lower())
    # In the other encoding each letter has the other case.
    return (
        score
        - _STRANGE * len(_CASE_TURNS.findall(sample.decode(encoding, "replace")))
        + sum(character.islower() for character in high)
    )
