"""What a command asks of a replay."""

from __future__ import annotations

import pytest

from streams.core.errors import ConfigurationError
from streams.jobs.requests import _offsets


def test_offsets_for_all_or_some_partitions() -> None:
    assert _offsets("5-10", [0, 1]) == {0: (5, 10), 1: (5, 10)}
    assert _offsets("1/5-", [0, 1]) == {1: (5, None)}
    for text in ("7/0-5", "5", "a-b"):
        with pytest.raises(ConfigurationError):
            _offsets(text, [0, 1])
