"""The secret of a generation is never silently another one."""

from __future__ import annotations

import pytest

from streams.core.errors import ConfigurationError
from streams.core.records import Outgoing, Record
from streams.privacy.pseudonyms import Pseudonyms
from streams.privacy.secret import parse_generations
from streams.privacy.secret_checks import SecretChecks

OLD, NEW, OTHER = "1:an old secret of some length", "2:a new secret of some length", "1:one with a slip in it"


def made(secret: str) -> Pseudonyms:
    return Pseudonyms(parse_generations(secret))


def read(*messages: Outgoing) -> SecretChecks:
    found = SecretChecks()
    found.learn(Record("esk.cursor", 0, 0, 0, b"db.table", b"{}"))
    for offset, one in enumerate(messages, 1):
        found.learn(Record("esk.cursor", 0, offset, 0, one.key, one.value))
    return found


def test_another_secret_under_the_same_number_is_refused() -> None:
    first = read().missing(made(OLD), "esk.cursor")
    assert [(one.key, b"secret" in (one.value or b"")) for one in first] == [(b"privacy-secret/1", False)]
    known = read(*first)
    known.refuse_other(made(OLD))
    known.refuse_other(made(NEW))  # without the older one, which other checks ask for
    with pytest.raises(ConfigurationError, match="generation 1 of PRIVACY_SECRET is another") as raised:
        known.refuse_other(made(f"{NEW},{OTHER}"))
    assert "slip" not in f"{raised.value}{raised.value.fix}"


def test_a_rotation_notes_the_new_generation_alone() -> None:
    known = read(*read().missing(made(OLD), "esk.cursor"))
    assert [one.key for one in known.missing(made(f"{NEW},{OLD}"), "esk.cursor")] == [b"privacy-secret/2"]


def test_of_two_that_begin_at_once_the_first_stands_after_a_compaction_too() -> None:
    (first,), (second,) = (read().missing(made(one), "esk.cursor") for one in (OLD, OTHER))
    known = read(first, second)
    known.refuse_other(made(OLD))
    assert known.again([second]) == [first]
    assert known.again([first]) == []
    with pytest.raises(ConfigurationError):
        known.refuse_other(made(OTHER))
