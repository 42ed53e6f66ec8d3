"""What the local stack keeps about itself, before it starts anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectors.local.stack import LocalStack
from streams.core.errors import ConfigurationError


def test_a_damaged_state_file_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text('{"kafka": ')
    assert [part.state for part in LocalStack(tmp_path).status().parts] == ["stopped"] * 3


def test_a_folder_that_cannot_be_written_is_refused_by_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError) as caught:
        LocalStack(tmp_path / "file").up()
    assert caught.value.setting == "LABELSTREAM_DATA"
