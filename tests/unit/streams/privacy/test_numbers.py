"""Which numbers are personal, and which stay."""

from __future__ import annotations

import pytest

from streams.privacy.entities import Entity
from streams.privacy.masking import Masker
from streams.privacy.recognisers.accounts import checks_account, checks_iban
from streams.privacy.recognisers.cards import passes_luhn
from streams.privacy.recognisers.documents import checks_inn, checks_snils
from streams.privacy.recognisers.numbers import NumberCandidate, find_numbers
from streams.privacy.recognisers.phone import Phones
from streams.privacy.recognisers.views import fold

MASKER = Masker(frozenset(Entity) - {Entity.NAME})


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("+375 29 123 45 67", "[ТЕЛЕФОН]"),
        ("тел. 223-45-67", "тел. [ТЕЛЕФОН]"),
        ("8, 912, 345, 67, 89 мой телефон", "[ТЕЛЕФОН] мой телефон"),
        (
            "восемь девятьсот двенадцать триста сорок пять шестьдесят семь восемьдесят девять",
            "[ТЕЛЕФОН]",
        ),
        ("вернули на 9123456789", "вернули на [ТЕЛЕФОН]"),
        ("карта 4276 1234 5678 9010 не та", "карта [КАРТА] не та"),
        ("паспорт 4509 123456 выдан 12.05.2010", "паспорт [ПАСПОРТ] выдан 12.05.2010"),
        ("серия 45 09, номер 123456", "серия [ПАСПОРТ]"),
        ("112-233-445 95", "[СНИЛС]"),
        ("снилс 11223344595", "снилс [СНИЛС]"),
        ("500100732259", "[ИНН]"),
        ("инн 7707083893", "инн [ИНН]"),
        ("полис ОМС 1234567890123456", "полис ОМС [ПОЛИС]"),
        ("40817810099910004312", "[СЧЁТ]"),
        ("р/с 4081 7810 0999 1000 4312", "р/с [СЧЁТ]"),
        ("лицевой счет 1234567 пуст", "лицевой счет [СЧЁТ] пуст"),
        ("DE89 3704 0044 0532 0130 00", "[СЧЁТ]"),
        ("А123ВС77 или x 123 xx 777 (машина)", "[НОМЕР АВТО_1] или [НОМЕР АВТО_2] (машина)"),
        ("тел 8·912·345·67·89", "тел [ТЕЛЕФОН]"),
        ("номер паспорта 503374 серия 7761", "номер паспорта [ПАСПОРТ]"),
        ("госномер К817АА", "госномер [НОМЕР АВТО]"),
        ("госномер к 817 аа", "госномер [НОМЕР АВТО]"),
        ("машина к817аа стоит", "машина [НОМЕР АВТО] стоит"),
        ("у 123 вх 777 нарушил", "[НОМЕР АВТО] нарушил"),
        ("к817аа регион 64, М.123.ММ.77 и К8О7АА64", "[НОМЕР АВТО_1], [НОМЕР АВТО_2] и [НОМЕР АВТО_3]"),
        ("8 916 123 потом 45 дальше 67", "[ТЕЛЕФОН]"),
        ("тел восемь девятьсот шестнадцать потом сто двадцать три затем 45 67", "тел [ТЕЛЕФОН]"),
        ("ivan собака яндекс точка ру", "[ПОЧТА]"),
        ("ivan @ gmail . com", "[ПОЧТА]"),
    ],
)
def test_masks(text: str, masked: str) -> None:
    assert MASKER.mask(text).text == masked


@pytest.mark.parametrize(
    "text",
    [
        "заказ 7707083893 когда",
        "посылка № 9123456789",
        "с 25.12.2023 - 31.12.2023",
        "в 15:30 12.05.2024",
        "адрес 79.123.145.167 не отвечает",
        "показания 12345, 23456",
        "в 100 км от города сломалась машина",
        "авто с 100 кв двигателем",
        "такси а 200 ру",
        "счет на 4500 руб, тариф 100 мбит за 1 200 000 ₽",
        "три тысячи двести сорок рублей за двадцать дней",
        "карта *1234, версия 14.5.2, ошибка 0x80070005",
        "кабель собака погрызла, нужен мастер",
        "ехал в 100 км 50 минут, цена с 200 на 300, кабель с 100 мм 50",
        "платил 89 потом 100 затем 250 потом 300",
        "заказ 123 потом 456789 дальше 12",
    ],
)
def test_leaves(text: str) -> None:
    assert MASKER.mask(text).text == text


def test_check_digits() -> None:
    assert passes_luhn("4111111111111111")
    assert not passes_luhn("4111111111111112")
    assert checks_snils("11223344595")
    assert not checks_snils("11223344596")
    assert checks_inn("7707083893")
    assert not checks_inn("7707083894")
    assert checks_inn("500100732259")
    assert not checks_inn("500100732258")
    assert checks_iban("de89370400440532013000")
    assert not checks_iban("de89370400440532013001")
    assert checks_account("30101810400000000225", "044525225")
    assert not checks_account("30101810500000000225", "044525225")


@pytest.mark.parametrize("piece", ["1 ", "1234 ", "1, ", "счет 12 ", "89123456789 "])
def test_the_work_grows_with_the_length_of_the_text(piece: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    class Counting(Phones):
        def judge(self, number: NumberCandidate) -> int:
            nonlocal asked
            asked += 1
            return super().judge(number)

    counts = []
    for pieces in (40, 80, 160):
        asked = 0
        list(find_numbers(fold(piece * pieces), [Counting()]))
        counts.append(asked)
    assert counts[2] - counts[1] <= 2 * (counts[1] - counts[0])
