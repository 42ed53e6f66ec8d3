"""The search of the acceptance run finds personal data in every spelling that may survive."""

from __future__ import annotations

import base64
import gzip
import json

import pytest

from tests.integration.privacy.search import Search
from tests.integration.privacy.secrets import Secret, secrets

SECRETS = (
    Secret("phone", "+7 (912) 345-67-89", ""),
    Secret("card", "4276 1234 5678 9012", ""),
    Secret("email", "Ivan.Petrov77@Mail.ru", ""),
    Secret("plate", "А123ВС 77", ""),
    Secret("user", "client-abcdefgh0123", ""),
    Secret("name", "Галиуллиной Айгуль", ""),
    Secret("address", "Омск, ул. Ямашева 12 кв 4", ""),
)
SEARCH = Search(SECRETS, ["где улица"])
SAID = json.dumps({"text": "звоните 8 912 345 67 89"})


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("phone", b"79123456789"),
        ("phone", SAID.encode()),
        ("phone", base64.b64encode(SAID.encode())),
        ("phone", b"a frame" + gzip.compress(SAID.encode(), mtime=0)),
        ("card", b"('4276-1234-5678-9012', 3)"),
        ("card", b"level=info card=4276123456789012 n=5"),
        ("email", "почта ivan.petrov77@mail.ru.".encode()),
        ("email", b"ivan.petrov77%40mail.ru"),
        ("plate", "госномер a123bc77".encode()),
        ("user", b'label_total{user="client-abcdefgh0123"} 1'),
        ("name", "для Айгуль".encode()),
        ("name", json.dumps("заказ галиуллина").encode()),
        ("name", repr("ГАЛИУЛЛИНУ".encode()).encode()),
        ("address", "[АДРЕС] Ямашева".encode()),
    ],
)
def test_each_spelling_is_found(kind: str, content: bytes) -> None:
    assert [one.split(": ", 1)[1].split()[0] for one in SEARCH.found([("here", content)])] == [kind]


def test_what_is_left_of_masked_rows_is_nothing() -> None:
    content = (
        'где мой заказ, [ИМЯ_1] и [ТЕЛЕФОН]; улица; {"created_at":"2026-03-01T12:00:00.037000Z"} p1:00ff12'
    )
    assert SEARCH.found([("here", content.encode())]) == []


def test_each_secret_is_found_where_it_was_written() -> None:
    made = secrets(280, 3)
    search = Search(made)
    for one in made:
        assert search.found([("here", f"{one.text} {one.value}".encode())]), one
