"""The generated pages and documents say what the code does."""

from __future__ import annotations

from pathlib import Path

from streams.core.environment import load
from streams.core.messages import Augmented
from streams.core.settings import Settings
from streams.reference.json_schema import headers_schema
from streams.reference.pages import describe_env, grouped_settings, messages_page, settings_page


def test_the_example_file_loads_and_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(describe_env(), "utf-8")
    assert load({}, file) == load({}, None)


def test_every_setting_stands_in_the_example_and_on_the_page_once() -> None:
    names = [name.upper() for name in Settings.model_fields]
    lines = describe_env().splitlines()
    page = settings_page().splitlines()
    for name in names:
        assert sum(line.startswith(f"{name}=") for line in lines) == 1
        assert sum(line.startswith(f"| `{name}` |") for line in page) == 1
    assert sorted(name.upper() for group in grouped_settings().values() for name in group) == sorted(names)
    assert all(grouped_settings().values())


def test_defaults_are_shown_and_secrets_are_empty() -> None:
    lines = describe_env().splitlines()
    assert "CLICKHOUSE_PORT=8123" in lines
    assert "CLICKHOUSE_SECURE=false" in lines
    assert "CLICKHOUSE_PASSWORD=" in lines
    assert "API_KEYS=" in lines
    assert "| `KAFKA_SASL_PASSWORD` | unset | SASL password. *secret* |" in settings_page().splitlines()


def test_the_messages_page_names_every_field_and_header() -> None:
    page = messages_page()
    for name in (*Augmented.model_fields, *headers_schema("dead-letter")["properties"], "label-version"):
        assert f"| `{name}` |" in page
    for topic in ("esk.rows", "esk.labeled", "esk.labeled.shadow", "esk.augmented", "esk.dead-letter"):
        assert f"`{topic}`" in page
