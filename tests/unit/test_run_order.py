"""The order in which a run begins its test files names files that are there."""

from __future__ import annotations

import pytest

from tests import conftest
from tests.unit.repo.command_lines import ROOT


@pytest.mark.parametrize("start", [*conftest._LONG, *conftest._TOGETHER, conftest._APART, conftest._LIGHT])
def test_what_begins_early_is_there(start: str) -> None:
    folder, _, name = start.rpartition("/")
    assert list((ROOT / folder).glob(f"{name}*")), start
