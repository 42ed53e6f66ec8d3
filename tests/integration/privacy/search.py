"""Finds personal data in bytes, in whatever spelling it may have survived."""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
import urllib.parse
import zlib
from collections.abc import Iterable, Iterator, Sequence

from streams.privacy.entities import PLACEHOLDER, Entity
from tests.integration.privacy.secrets import CARRIERS, Secret

_WORD = re.compile(r"[^\W\d_]{4,}")
_TOKEN = re.compile(r"[\w@.+-]{6,}")
# Groups of digits as numbers are written in; not over a line's end.
_NUMBER = re.compile(r"\d+(?:(?:[ ()./_-]{1,3}|,? (?:номер|№) )\d+)*")
_GROUP = re.compile(r"\d+")
_MOST_GROUPS, _LEAST_DIGITS, _MOST_DIGITS = 7, 10, 20
_PLATE = re.compile(r"[авекмнорстухabekmhopctyx][ -]?\d{3}[ -]?[авекмнорстухabekmhopctyx]{2}[ -]?\d{2,3}")
_LATIN = str.maketrans("авекмнорстух", "abekmhopctyx")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{24,}={0,2}")
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")
_ESCAPED_BYTES = re.compile(r"(?:\\x[0-9a-fA-F]{2})+")
# What stands in an address and names nobody.
_COMMON = "улица дом квартира подъезд корпус корп город проспект"


class Search:
    """Looks for ``secrets``. ``clean``: texts without them, as prompts are: words in them do not count."""

    def __init__(self, secrets: Sequence[Secret], clean: Iterable[str] = ()) -> None:
        self._tokens: dict[str, Secret] = {}
        self._numbers: dict[str, Secret] = {}
        self._plates: dict[str, Secret] = {}
        self._stems: dict[str, Secret] = {}
        for one in secrets:
            self._add(one)
        around = (one.said.replace(one.value, " ") for one in secrets)
        for text in (_COMMON, *CARRIERS, *around, *clean):
            for word in _words(text):
                for stem in self._stems_in(word):
                    del self._stems[stem]

    def found(self, places: Iterable[tuple[str, bytes]]) -> list[str]:
        """Where each was found, as `place: kind value`."""
        told: dict[str, None] = {}
        for place, content in places:
            for text in spellings(content):
                for one, written in self._found_in(text):
                    told[f"{place}: {one.kind} {one.value!r} as {written!r}"] = None
        return list(told)

    def _add(self, one: Secret) -> None:
        if one.kind in (Entity.NAME, Entity.ADDRESS):
            for word in _words(one.value):
                self._stems[_stem(word)] = one
        elif one.kind == Entity.PLATE:
            self._plates[_plate(one.value)] = one
        elif one.kind in (Entity.EMAIL, "user", "session"):
            self._tokens[one.value.casefold()] = one
        else:
            digits = "".join(_GROUP.findall(one.value))
            self._numbers[digits] = one
            if one.kind == Entity.PHONE:
                self._numbers[digits[-10:]] = one

    def _found_in(self, text: str) -> Iterator[tuple[Secret, str]]:
        text = PLACEHOLDER.sub(" ", text).casefold()
        for token in _TOKEN.findall(text):
            if (one := self._tokens.get(token.strip(".+-"))) is not None:
                yield one, token
        for match in _NUMBER.finditer(text):
            for digits in _runs(_GROUP.findall(match[0])):
                if (one := self._numbers.get(digits)) is not None:
                    yield one, digits
        for plate in _PLATE.findall(text):
            if (one := self._plates.get(_plate(plate))) is not None:
                yield one, plate
        for word in set(_words(text)):
            for stem in self._stems_in(word):
                yield self._stems[stem], word

    def _stems_in(self, word: str) -> list[str]:
        """Of another case of a word too: its end differs."""
        return [
            word[:end] for end in range(max(4, len(word) - 3), len(word) + 1) if word[:end] in self._stems
        ]


def spellings(content: bytes) -> Iterator[str]:
    """``content`` as text, and again without escapes, out of base64 and unpacked."""
    text = content.decode("utf-8", "replace")
    yield text
    if "\\u0" in text:
        yield _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)
    if "\\x" in text:
        yield _ESCAPED_BYTES.sub(
            lambda match: bytes.fromhex(match[0].replace("\\x", "")).decode("utf-8", "replace"), text
        )
    if "%D" in text or "%2B" in text or "%40" in text:
        yield urllib.parse.unquote(text)
    for match in _BASE64.finditer(content):
        with_end = match[0].rstrip(b"=") + b"=" * (-len(match[0].rstrip(b"=")) % 4)
        try:
            yield base64.b64decode(
                with_end, b"-_" if b"_" in with_end or b"-" in with_end else b"+/"
            ).decode()
        except (binascii.Error, UnicodeDecodeError):
            continue
    start = content.find(b"\x1f\x8b\x08")
    while start >= 0:
        with contextlib.suppress(zlib.error):
            yield zlib.decompressobj(31).decompress(content[start:]).decode("utf-8", "replace")
        start = content.find(b"\x1f\x8b\x08", start + 1)


def _runs(groups: list[str]) -> Iterator[str]:
    """Neighbouring groups joined, as long as a number may be."""
    for begin in range(len(groups)):
        joined = ""
        for group in groups[begin : begin + _MOST_GROUPS]:
            joined += group
            if len(joined) > _MOST_DIGITS:
                break
            if len(joined) >= _LEAST_DIGITS:
                yield joined


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold().replace("ё", "е"))


def _stem(word: str) -> str:
    return word[:-2] if len(word) > 5 else word[:-1] if len(word) > 4 else word


def _plate(written: str) -> str:
    return re.sub("[ -]", "", written.casefold()).translate(_LATIN)
