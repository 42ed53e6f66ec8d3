"""Pseudonyms: keyed, equal in every process, and found again after a rotation."""

from __future__ import annotations

import pytest

from streams.core.environment import load
from streams.core.errors import ConfigurationError
from streams.privacy.pseudonyms import Pseudonyms, is_pseudonym, pseudonyms_of
from streams.privacy.secret import parse_generations

OLD, NEW = "1:an old secret of some length", "2:a new secret of some length"


def made(secret: str) -> Pseudonyms:
    return Pseudonyms(parse_generations(secret))


def test_an_id_has_one_pseudonym_and_its_kind_and_the_secret_make_another() -> None:
    one = made(NEW)
    assert one.pseudonym("user", "79161234567") == made(NEW).pseudonym("user", "79161234567")
    several = {
        one.pseudonym("user", "79161234567"),
        one.pseudonym("user", "79161234568"),
        one.pseudonym("session", "79161234567"),
        made(OLD).pseudonym("user", "79161234567"),
    }
    assert len(several) == 4
    assert all(is_pseudonym(found) and "7916" not in found for found in several)
    assert not is_pseudonym("79161234567")


def test_after_a_rotation_new_ids_get_the_new_generation_and_old_pseudonyms_are_still_known() -> None:
    before, after = made(OLD), made(f"{NEW},{OLD}")
    assert after.pseudonym("user", "u") == made(NEW).pseudonym("user", "u")
    assert before.pseudonym("user", "u") in after.every_pseudonym("user", "u")
    assert list(after.row_keys) == [2, 1]
    assert after.row_keys[1] == before.row_keys[1]
    assert before.erased("u").items() <= after.erased("u").items()


@pytest.mark.parametrize(
    ("secret", "word"),
    [
        ("short", "generation 1 cannot be used"),
        ("2:short", "generation 2 cannot be used"),
        (f"{OLD},a second one without a number", "entry 2"),
        (f"{OLD},{NEW}", "generation 2 stands behind"),
        (f"{NEW},1:a new secret of some length", "another one's secret"),
    ],
)
def test_a_malformed_secret_is_refused_and_not_shown(secret: str, word: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        pseudonyms_of(load({"PRIVACY_SECRET": secret}, None))
    assert caught.value.setting == "PRIVACY_SECRET"
    assert word in str(caught.value)
    assert "of some length" not in str(caught.value)


def test_masking_without_a_secret_is_refused_and_a_secret_alone_is_none_of_it() -> None:
    with pytest.raises(ConfigurationError, match="PRIVACY_SECRET"):
        load({"PRIVACY": "mask"}, None)
    assert pseudonyms_of(load({}, None)) is None
    assert pseudonyms_of(load({"PRIVACY_SECRET": OLD}, None)) is not None
