"""The configuration of the connector that scripts import."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from connectors.clickhouse import ClickHouseConfig, ClickHouseConnector
from connectors.clickhouse.source.export import SCHEMA, WRITERS, Format
from streams.core.errors import ConfigurationError
from streams.core.settings import Settings
from tests.waiting import PATIENCE


def test_what_the_environment_does_not_set_has_its_default() -> None:
    config = ClickHouseConfig(host="h", port=None, username=None, password=None, table_name=None)
    assert config == ClickHouseConfig(host="h")
    assert (config.port, config.username, config.database, config.table_name) == (
        8123,
        "default",
        "esk",
        "logs",
    )
    assert (config.text_column, config.timestamp_column) == ("query_text", "created_at")


@pytest.mark.parametrize(
    ("values", "setting"),
    [
        ({}, "CLICKHOUSE_HOST"),
        ({"host": None}, "CLICKHOUSE_HOST"),
        ({"host": "h", "port": "many"}, "CLICKHOUSE_PORT"),
        ({"host": "h", "port": 70_000}, "CLICKHOUSE_PORT"),
        ({"host": "h", "text_column": "a`b"}, "CLICKHOUSE_TEXT_COLUMN"),
        ({"host": "h", "ca_cert": "/no/such/file"}, "CLICKHOUSE_CA_CERT"),
        ({"host": "h", "pasword": "x"}, ""),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(values: dict[str, Any], setting: str) -> None:
    with pytest.raises(ConfigurationError) as told:
        ClickHouseConfig(**values)
    assert told.value.setting == setting


def test_a_configuration_from_settings() -> None:
    settings = Settings(
        clickhouse_host="h", clickhouse_text_column="msg", clickhouse_password="x", min_text_length=5
    )
    config = ClickHouseConfig.from_settings(settings)
    assert (config.text_column, config.min_text_length) == ("msg", 5)
    assert config.settings() == settings
    assert config.settings().model_fields_set == settings.model_fields_set


@pytest.mark.parametrize("format", WRITERS)
@pytest.mark.parametrize("rows", [1, 50_000])
def test_a_full_disk_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: Format, rows: int
) -> None:
    table = pa.table([pa.nulls(rows, field.type) for field in SCHEMA], schema=SCHEMA)

    class Filled(ClickHouseConnector):
        def __init__(self) -> None:
            """Without a server."""

        def _read(self, days: int, limit: int | None, take: Callable[[Any], None], *_: Any) -> None:
            take(table)

    monkeypatch.setattr(Path, "open", lambda *_: io.BufferedWriter(io.FileIO("/dev/full", "w")))
    with pytest.raises(ConfigurationError, match="No space left"):
        Filled().export_to_file(tmp_path / "out", format=format)


def test_importing_the_package_loads_nothing() -> None:
    script = (
        "import sys, connectors.clickhouse\n"
        "assert not {'pandas', 'pyarrow', 'clickhouse_connect'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=PATIENCE)
