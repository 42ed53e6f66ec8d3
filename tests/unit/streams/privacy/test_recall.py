"""Little of the long run `make soak-privacy`: what is found of made personal data, and what stays."""

from __future__ import annotations

import pytest

from streams.privacy.entities import Entity
from streams.privacy.masking import Masker
from tests.unit.streams.privacy.recall import LEAST, clean, made_clean, recall

CARRIERS = (
    "где мой заказ",
    "Здравствуйте, третий день нет интернета, мастер был и не помог",
    "деньги списались дважды, верните на карту",
    "почему подорожал тариф с этого месяца?",
    "курьер не приехал, прождал весь день дома",
    "в приложении пишет ошибка 500",
)


@pytest.fixture(scope="module")
def masker() -> Masker:
    return Masker(frozenset(Entity))


def test_finds_what_people_write(masker: Masker) -> None:
    groups, _, missed = recall(masker, CARRIERS, 60, seed=1)
    assert {name: share for name, share in groups.items() if share < LEAST[name]} == {}, missed


def test_a_clean_message_stays(masker: Masker) -> None:
    assert clean(masker, [*CARRIERS, *made_clean(CARRIERS, 150, seed=1)]) == []
