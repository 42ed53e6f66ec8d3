"""The list of erased ids: whom it covers, until when, and under which keys."""

from __future__ import annotations

import pytest

from streams.core.errors import ConfigurationError
from streams.privacy.erasure import NOTHING, ErasedId, ErasureList, digests_of, key_for
from streams.privacy.pseudonyms import Pseudonyms
from streams.privacy.secret import parse_generations

OLD, NEW = "1:an-old-secret-of-ours", "2:a-newer-secret-of-ours"
SALT = "salt:" + "00ff" * 8


def test_a_user_is_covered_up_to_the_erasure_and_a_row_by_its_id() -> None:
    user, row = digests_of("anna", [SALT], None)[0], digests_of("42", [SALT], None)[0]
    erased = ErasureList([ErasedId("user", user, SALT, 100), ErasedId("row", row, SALT, 50)])
    assert erased.covers("7", "anna", 100)
    assert not erased.covers("7", "anna", 101)
    assert not erased.covers("7", "boris", 10)
    assert not erased.covers("7", None, 10)
    assert erased.covers("42", None, 50)
    assert not erased.covers("42", None, 51)
    # A row whose id is that user's, and a user who is named like that row, are others.
    assert not erased.covers("anna", None, 10)
    assert not erased.covers("7", "42", 10)
    assert erased.newest == 100
    assert not NOTHING.covers("42", "anna", 0)


def test_an_entry_is_found_after_the_secret_was_rotated_and_needs_it() -> None:
    before = Pseudonyms(parse_generations(OLD))
    key = key_for([], before)
    entry = ErasedId("user", digests_of("anna", [key], before)[0], key, 100)
    rotated = Pseudonyms(parse_generations(f"{NEW},{OLD}"))
    assert ErasureList([entry], rotated).covers("7", "anna", 1)
    for without in (None, Pseudonyms(parse_generations(NEW))):
        with pytest.raises(ConfigurationError, match="generation 1 of PRIVACY_SECRET"):
            ErasureList([entry], without)


def test_entries_without_a_secret_have_one_salt() -> None:
    first = key_for([], None)
    assert first != key_for([], None)
    assert key_for([ErasedId("user", "", "generation:1", 0), ErasedId("user", "", first, 0)], None) == first


def test_the_later_of_two_erasures_counts() -> None:
    digest = digests_of("anna", [SALT], None)[0]
    erased = ErasureList([ErasedId("user", digest, SALT, 200), ErasedId("user", digest, SALT, 100)])
    assert erased.covers("7", "anna", 150)


def test_a_row_of_the_far_future_makes_nobody_else_late() -> None:
    now, far = 1_000_000_000_000_000, 4_000_000_000_000_000
    user, row = digests_of("anna", [SALT], None)[0], digests_of("42", [SALT], None)[0]
    entries = [ErasedId("user", user, SALT, now), ErasedId("row", row, SALT, far)]
    erased = ErasureList(entries, now=lambda: now / 1e6)
    assert erased.newest == now
    assert erased.covers("42", "anna", far)
    assert erased.covers("7", "anna", now)
    assert not erased.covers("7", "anna", now + 1)  # she calls again
    assert not erased.covers("42", "anna", far + 1)
    # With nothing else, it is still in the list.
    alone = ErasureList(entries[1:], now=lambda: now / 1e6)
    assert alone.newest is not None
    assert alone.covers("42", None, far)
    assert not alone.covers("41", None, far)
