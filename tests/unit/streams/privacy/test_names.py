"""Which names are found: in any case, declined, with initials, capitalised ones that no list holds."""

from __future__ import annotations

import pytest

from streams.core.errors import ConfigurationError
from streams.privacy.entities import Entity
from streams.privacy.masking import Masker
from streams.privacy.recognisers import packages


@pytest.fixture(scope="module")
def masker() -> Masker:
    return Masker(frozenset(Entity))


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("меня зовут иванов петр сергеевич", "меня зовут [ИМЯ]"),
        ("карта на имя Ивановой Анны Петровны", "карта на имя [ИМЯ]"),
        ("ИВАНОВ ПЕТР не получил карту", "[ИМЯ] не получил карту"),
        ("И. И. Иванов и Петрова А.С. оформили", "[ИМЯ_1] и [ИМЯ_2] оформили"),
        ("магомедов расул ахмедович жалуется", "[ИМЯ] жалуется"),
        ("алиев вугар мамед оглы", "[ИМЯ]"),
        ("ильдар галиуллин ждет курьера", "[ИМЯ] ждет курьера"),
        ("Верните деньги Джону Смиту", "Верните деньги [ИМЯ]"),
        ("заказ на фамилию гайфутдинова", "заказ на фамилию [ИМЯ]"),
        ("оператор Лейсан хамила", "оператор [ИМЯ] хамила"),
        ("владелец карты, на имя IVANOV PETR", "владелец карты, на имя [ИМЯ]"),
        ("анна петровна белинская", "[ИМЯ]"),
        ("перевод от Iuliia Kuznetsova не дошел", "перевод от [ИМЯ] не дошел"),
        ("PETROV IVAN SERGEEVICH, виза", "[ИМЯ], виза"),
        ("получил ivan petrov", "получил [ИМЯ]"),
        ("меня зовут «Марина»", "меня зовут «[ИМЯ]»"),
        ("Владимир Петров из Владимира", "[ИМЯ] из Владимира"),
        ("это иванов беспокоит", "это [ИМЯ] беспокоит"),
        ("роман соколов ждет курьера", "[ИМЯ] ждет курьера"),
        (
            "Иванов Петр звонил, Петру Иванову перезвонили, а Смирновой Анне нет",
            "[ИМЯ_1] звонил, [ИМЯ_1] перезвонили, а [ИМЯ_2] нет",
        ),
        ("анна, ул. Максима Горького 5, 89123456789", "[ИМЯ], [АДРЕС], [ТЕЛЕФОН]"),
    ],
)
def test_masks(masker: Masker, text: str, masked: str) -> None:
    assert masker.mask(text).text == masked
    assert masker.mask(masked).text == masked


@pytest.mark.parametrize(
    "text",
    [
        "света нет второй день, вера в вас кончилась",
        "вышла замуж, фамилия другая, что поменять надо",
        "фамилию после свадьбы сменила",
        "роман про любовь и надежду не пришел",
        "карта на имя мужа",
        "Шуффл не работает, горячий кофи",
        "в офисе на Ленина очередь",
        "Здравствуйте! Подскажите, Яндекс не работает?",
        "доставка в город Владимир, а потом во Владимире и обратно",
        "магазин «Анна» закрыт, отель Марина тоже, в марине шумно",
        "купила в Мария-Ра и Мария Ра, смотрела Анну Каренину",
        "Samsung Galaxy Note и Apple Watch, вход через Admin Login",
    ],
)
def test_leaves(masker: Masker, text: str) -> None:
    assert masker.mask(text).text == text


def test_names_without_the_packages_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match="not installed") as error:
        Masker(frozenset({Entity.NAME}))
    assert error.value.setting == "PRIVACY_ENTITIES"
    assert Masker(frozenset(Entity) - {Entity.NAME}).mask("89123456789").text == "[ТЕЛЕФОН]"
