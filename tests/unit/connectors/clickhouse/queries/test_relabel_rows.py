"""Conditions on the rows of a replay."""

from __future__ import annotations

import pytest

from connectors.clickhouse.queries.relabel_rows import Condition
from streams.core.errors import ConfigurationError
from streams.privacy.pseudonyms import Pseudonyms
from streams.privacy.secret import parse_generations
from tests.unit.streams.privacy.fakes import ROTATED


def test_conditions_are_read_and_nonsense_is_refused() -> None:
    assert Condition.parse("confidence<0.6") == Condition("confidence", "Float64", "<", 0.6)
    assert Condition.parse("label = payment") == Condition("label", "String", "=", "payment")
    assert Condition.parse("domain!=a<b").value == "a<b"
    for text in ("label<payment", "confidence<much", "text=x", "payment", "1=1; DROP TABLE x"):
        with pytest.raises(ConfigurationError):
            Condition.parse(text)


def test_a_condition_on_a_person_names_all_pseudonyms_and_never_the_person() -> None:
    pseudonyms = Pseudonyms(parse_generations(ROTATED))
    text = Condition.without_ids("user = 4711", pseudonyms)
    assert "4711" not in text
    several = tuple(pseudonyms.every_pseudonym("user", "4711"))
    assert len(several) == 2
    assert Condition.parse(text) == Condition("user_id", "Array(String)", "IN", several)
    assert Condition.without_ids(text, pseudonyms) == text
    other = Condition.without_ids("session!=4711", pseudonyms)
    sessions = tuple(pseudonyms.every_pseudonym("session", "4711"))
    assert Condition.parse(other) == Condition("session_id", "Array(String)", "NOT IN", sessions)
    assert Condition.parse(f"user={several[0]}") == Condition("user_id", "String", "=", several[0])
    for same in ("confidence<0.6", "label=4711", f"user={several[1]}"):
        assert Condition.without_ids(same, pseudonyms) == same
    with pytest.raises(ConfigurationError):
        Condition.without_ids("user<4711", pseudonyms)


def test_rows_by_who_decided() -> None:
    one = Condition.parse("decided_by=proxy")
    assert (one.column, one.type, one.operator, one.value) == ("decided_by", "String", "=", "proxy")
    one = Condition.parse("proxy_generation >= 3")
    assert (one.column, one.type, one.operator, one.value) == ("proxy_generation", "Int64", ">=", 3)
    for wrong in ("decided_by=proxies", "decided_by<llm", "proxy_generation=1.5"):
        with pytest.raises(ConfigurationError):
            Condition.parse(wrong)
