"""What a mask does to a text, whatever it recognises."""

from __future__ import annotations

import pytest

from streams.privacy.entities import Entity
from streams.privacy.masking import Masked, Masker

MASKER = Masker(frozenset(Entity) - {Entity.NAME})


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("звоните 89123456789", "звоните [ТЕЛЕФОН]"),
        ("89123456789 или +7 (495) 223-45-67", "[ТЕЛЕФОН_1] или [ТЕЛЕФОН_2]"),
        ("89123456789, повторяю: +7 912 345-67-89", "[ТЕЛЕФОН], повторяю: [ТЕЛЕФОН]"),
        ("[ТЕЛЕФОН] и 89123456789", "[ТЕЛЕФОН] и [ТЕЛЕФОН_2]"),
        ("[ТЕЛЕФОН_7] и 89123456789", "[ТЕЛЕФОН_7] и [ТЕЛЕФОН_8]"),
        ("почта a@b.ru, тел. 89123456789", "почта [ПОЧТА], тел. [ТЕЛЕФОН]"),
        ("", ""),
    ],
)
def test_places_and_numbers_of_placeholders(text: str, masked: str) -> None:
    assert MASKER.mask(text).text == masked
    assert MASKER.mask(masked) == Masked(masked)


def test_counts_what_was_put_in() -> None:
    masked = MASKER.mask("[ТЕЛЕФОН] 89123456789, 89123456789 и a@b.ru")
    assert masked.counts == {Entity.PHONE: 2, Entity.EMAIL: 1}


def test_an_entity_that_is_off_stays() -> None:
    text = "a@b.ru, 89123456789"
    assert Masker(frozenset({Entity.PHONE})).mask(text).text == "a@b.ru, [ТЕЛЕФОН]"


@pytest.mark.parametrize(
    "text",
    [
        "８（９１２）３４５－６７－８９",
        "8\u00a0912\u00a0345\u200967\u201189",
        "8912\u200b345\u2060678\ufeff9",
        "٨٩١٢٣٤٥٦٧٨٩",
        "8 9О2 3З3 4О 5О",
    ],
)
def test_reads_characters_that_look_like_digits(text: str) -> None:
    assert MASKER.mask(f"тел {text}!").text == "тел [ТЕЛЕФОН]!"
