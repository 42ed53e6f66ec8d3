"""The kinds of personal data, and the placeholder that takes the place of each."""

from __future__ import annotations

import re
from enum import StrEnum


class Entity(StrEnum):
    """A kind of personal data; the values are those of ``PRIVACY_ENTITIES``."""

    PHONE = "phone"
    EMAIL = "email"
    CARD = "card"
    PASSPORT = "passport"
    SNILS = "snils"
    INN = "inn"
    OMS = "oms"
    ACCOUNT = "account"
    PLATE = "plate"
    NAME = "name"
    ADDRESS = "address"


# The word inside an entity's placeholder.
WORDS: dict[Entity, str] = {
    Entity.PHONE: "ТЕЛЕФОН",
    Entity.EMAIL: "ПОЧТА",
    Entity.CARD: "КАРТА",
    Entity.PASSPORT: "ПАСПОРТ",
    Entity.SNILS: "СНИЛС",
    Entity.INN: "ИНН",
    Entity.OMS: "ПОЛИС",
    Entity.ACCOUNT: "СЧЁТ",
    Entity.PLATE: "НОМЕР АВТО",
    Entity.NAME: "ИМЯ",
    Entity.ADDRESS: "АДРЕС",
}
_ENTITIES = {word: entity for entity, word in WORDS.items()}

# A placeholder in a text; `placeholder_at` reads a match.
PLACEHOLDER = re.compile(rf"\[({'|'.join(WORDS.values())})(?:_([1-9][0-9]{{0,5}}))?\]")


def placeholder(entity: Entity, number: int | None = None) -> str:
    """``[ИМЯ]``, or ``[ИМЯ_2]`` for the second of several persons in a text."""
    return f"[{WORDS[entity]}]" if number is None else f"[{WORDS[entity]}_{number}]"


def placeholder_at(match: re.Match[str]) -> tuple[Entity, int]:
    """Entity and number of a match of `PLACEHOLDER`; one without a number is the first."""
    return _ENTITIES[match[1]], int(match[2] or 1)
