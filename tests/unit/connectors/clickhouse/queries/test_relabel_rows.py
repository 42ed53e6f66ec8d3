"""Conditions on the rows of a replay."""

from __future__ import annotations

import pytest

from connectors.clickhouse.queries.relabel_rows import Condition
from streams.core.errors import ConfigurationError


def test_conditions_are_read_and_nonsense_is_refused() -> None:
    assert Condition.parse("confidence<0.6") == Condition("confidence", "Float64", "<", 0.6)
    assert Condition.parse("label = payment") == Condition("label", "String", "=", "payment")
    assert Condition.parse("domain!=a<b").value == "a<b"
    for text in ("label<payment", "confidence<much", "text=x", "payment", "1=1; DROP TABLE x"):
        with pytest.raises(ConfigurationError):
            Condition.parse(text)
