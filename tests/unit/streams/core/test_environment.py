"""Settings: every refusal names the setting and never shows a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.core.environment import load
from streams.core.errors import ConfigurationError
from streams.core.settings import Settings


def refused(environment: dict[str, str], env_file: Path | None = None) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(environment, env_file)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CLICKHOUSE_PORT", "abc"),
        ("CLICKHOUSE_PORT", "70000"),
        ("POLL_START", "yesterday"),
        ("POLL_START", "2026-01-01T00:00:00"),
        ("LLM_LABELER_API_BASE", "llm:8000"),
        ("LLM_CA_CERT", "no/such/file.pem"),
        ("TOPIC_PREFIX", "with space"),
        ("CLICKHOUSE_TABLE", "logs`; drop"),
        ("LLM_LABELER_CONCURRENCY", "0"),
    ],
)
def test_a_malformed_value_is_refused_by_name(name: str, value: str) -> None:
    said = refused({name: value})
    assert name in said
    assert value in said


def test_a_slip_of_the_pen_is_found_in_the_environment_and_anything_unknown_in_the_file(
    tmp_path: Path,
) -> None:
    assert "did you mean CLICKHOUSE_PASSWORD" in refused({"CLICKHOUSE_PASWORD": "x"})
    file = tmp_path / ".env"
    file.write_text("KAFKA_HEAP_OPTS=-Xmx1g\n")
    assert "KAFKA_HEAP_OPTS" in refused({}, file)
    assert load({"KAFKA_HEAP_OPTS": "-Xmx1g", "CLICKHOUSE_SERVICE_HOST": "10.0.0.1"}, None)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b'TOPIC_PREFIX=a\nCLICKHOUSE_PASSWORD="hunter2\nTOPIC_PARTITIONS=2\n', "line 2"),
        (b"TOPIC_PREFIX=a\n\nhunter2 is no setting\n", "line 3"),
        ("CLICKHOUSE_PASSWORD=пароль\n".encode("cp1251"), "UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_in_full_is_refused_and_its_lines_are_not_shown(
    tmp_path: Path, content: bytes, line: str
) -> None:
    file = tmp_path / ".env"
    file.write_bytes(content)
    said = refused({}, file)
    assert str(file) in said
    assert line in said
    assert "hunter2" not in said


def test_a_file_may_have_a_byte_order_mark_comments_and_export(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_bytes(b"\xef\xbb\xbfTOPIC_PREFIX=a # note\r\n\r\n# x\r\nexport TOPIC_PARTITIONS = 3\r\n")
    settings = load({}, file)
    assert (settings.topic_prefix, settings.topic_partitions) == ("a", 3)


def test_the_environment_goes_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("CLICKHOUSE_TABLE=from_file\nCLICKHOUSE_DATABASE=from_file\n")
    settings = load({"CLICKHOUSE_TABLE": "from_environment"}, file)
    assert (settings.clickhouse_table, settings.clickhouse_database) == ("from_environment", "from_file")


def test_secrets_are_not_shown() -> None:
    settings = load({"CLICKHOUSE_PASSWORD": "hunter2", "LLM_LABELER_API_KEY": "hunter2"}, None)
    assert "hunter2" not in repr(settings) + str(settings.model_dump())
    said = refused({"CLICKHOUSE_PASSWORD": "hunter2", "CLICKHOUSE_PORT": "x"})
    assert "hunter2" not in said


def test_sasl_asks_for_user_and_password() -> None:
    assert "KAFKA_SASL_USERNAME" in refused({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL"})


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_the_version_of_people_is_no_model_s() -> None:
    with pytest.raises(ConfigurationError, match=r"LABEL_VERSION.*people"):
        load({"LABEL_VERSION": "human"}, None)
