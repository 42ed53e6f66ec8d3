"""Which addresses are found, and what only looks like one."""

from __future__ import annotations

import pytest

from streams.privacy.entities import Entity
from streams.privacy.masking import Masker

MASKER = Masker(frozenset({Entity.ADDRESS}))


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("ул. Ленина, д. 5, кв. 12", "[АДРЕС]"),
        ("привезите на улицу гагарина 15 квартира 4 завтра", "привезите на [АДРЕС] завтра"),
        ("г. Казань, ул. Баумана, д. 7/2, кв 33, подъезд 2, этаж 5", "[АДРЕС]"),
        ("420111, Казань, Пушкина 10-5", "[АДРЕС]"),
        ("город казань улица пушкина дом десять квартира пять", "[АДРЕС]"),
        ("живу на ленина 5 кв 12", "живу на [АДРЕС]"),
        ("д 15 кв 3", "[АДРЕС]"),
        ("деревня Ивановка, дом 5", "[АДРЕС]"),
        ("Московская обл., г. Химки, пр-т Мельникова, 8, 115", "[АДРЕС]"),
        ("шоссе Энтузиастов, владение 12", "[АДРЕС]"),
        ("с ул. Мира 5 на ул. Труда 7", "с [АДРЕС_1] на [АДРЕС_2]"),
    ],
)
def test_masks(text: str, masked: str) -> None:
    assert MASKER.mask(text).text == masked


@pytest.mark.parametrize(
    "text",
    [
        "в офисе на Ленина очередь на 2 часа и одно окно работает",
        "на улице минус 20 и нет интернета",
        "улица где живу 5 лет",
        "дом 15 весь без инета",
        "посылка до иркутска 5 дней",
        "доставка москва заказ 30417",
        "на мира 3 часа нет света, скорость 100 мбит",
    ],
)
def test_leaves(text: str) -> None:
    assert MASKER.mask(text).text == text
