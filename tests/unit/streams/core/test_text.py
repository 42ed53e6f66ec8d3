"""The short way for plain texts gives what the long way gives: identities and partitions are on disk."""

from __future__ import annotations

import re
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from streams.core import text as cleaning
from streams.core.text import clean, is_plain
from streams.core.topics import normalise

_SPACE = re.compile(r"\s+")
# Mostly what queries are made of, with enough of what is not plain.
TEXTS = st.one_of(
    st.text(),
    st.text(alphabet="абвгдеёйЁЙ АБ «»—!?.,0129azAZ"),
    st.text(alphabet="ай\u0306е\u0308 \u00a0\t\n№…ﬁ²\u200b\u200dİß"),
)


def long_clean(text: str) -> str:
    text = cleaning._CONTROL.sub(" ", text)
    text = unicodedata.normalize("NFKC", cleaning._INVISIBLE.sub("", text))
    text = _SPACE.sub(" ", cleaning._CONTROL.sub(" ", text)).strip()
    return text if text.strip("\u200c\u200d\ufe0e\ufe0f ") else ""


@given(TEXTS)
def test_cleaning(text: str) -> None:
    assert clean(text) == long_clean(text)


@given(TEXTS)
def test_normalising(text: str) -> None:
    long_way = _SPACE.sub(" ", unicodedata.normalize("NFKC", text)).strip().casefold()
    assert normalise(text) == long_way


def test_every_plain_character_is_its_own_normal_form() -> None:
    plain = [chr(code) for code in range(0x3000) if is_plain(chr(code))]
    assert len(plain) > 150
    for character in plain:
        assert unicodedata.normalize("NFKC", f"a{character}b") == f"a{character}b"
    assert not is_plain("a  b")
    assert not is_plain(" a")
    assert not is_plain("a ")
    assert not is_plain("")
