"""The local stack as the commands use it."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.core.errors import ConfigurationError
from streams.core.settings import Settings
from streams.runtime.local_stack import local_stack_status, start_local_stack


def test_a_taxonomy_that_cannot_be_used_is_refused_before_anything_starts(tmp_path: Path) -> None:
    settings = Settings(labelstream_data=tmp_path, taxonomy_path=tmp_path / "none.yaml")
    with pytest.raises(ConfigurationError) as caught:
        start_local_stack(settings)
    assert caught.value.setting == "TAXONOMY_PATH"
    states = {local_stack_status(settings)[part]["state"] for part in ("kafka", "clickhouse", "llm")}
    assert states == {"stopped"}
