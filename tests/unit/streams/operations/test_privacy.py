"""`labelstream privacy try`: before and after, whatever PRIVACY is."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.core.environment import load
from streams.core.errors import ConfigurationError
from streams.core.records import Record
from streams.operations.privacy import _Content, _published, _stored, try_file
from streams.privacy.door import entities_of, privacy_of

PHONES = load({"PRIVACY_ENTITIES": "phone"}, None)


@pytest.mark.parametrize("name", ["texts.txt", "texts.csv"])
async def test_a_file_is_shown_before_and_after(tmp_path: Path, name: str) -> None:
    file, head = tmp_path / name, "text\n" if name.endswith("csv") else ""
    file.write_text(f"{head}где заказ\nмой +7 916 123-45-67\nи +7 916 123-45-68\n", "utf-8")
    found = await try_file(PHONES, file, 1)
    shown = found["changes"]
    assert (found["texts"], found["changed"], found["failed"]) == (3, 2, 0)
    assert found["counts"] == {"phone": 2}
    assert [(one["before"], one["after"]) for one in shown] == [("мой +7 916 123-45-67", "мой [ТЕЛЕФОН]")]


async def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.txt"):
        await try_file(PHONES, tmp_path / "none.txt", 1)


def test_entities_are_named_and_slips_refused() -> None:
    assert [one.value for one in entities_of(PHONES)] == ["phone"]
    assert len(entities_of(load({}, None))) == 11
    assert privacy_of(PHONES) == {"mode": "off", "entities": []}
    with pytest.raises(ConfigurationError, match="fone is unknown"):
        entities_of(load({"PRIVACY_ENTITIES": "email, fone"}, None))


def test_plain_ids_are_told_and_pseudonyms_are_not() -> None:
    masked, other = "p1:" + "4111" * 8, "p1:" + "0" * 32
    message = b'{"row_id":"1","text":"a","user_id":"%s","session_id":"%s"}'
    safe, plain = (message % (user.encode(), other.encode()) for user in (masked, "4711"))
    headers = (("error", b"no label"),)
    assert _published(Record("t", 0, 0, 0, b"1", safe, headers)) == _Content(["no label", "a"], [])
    assert _published(Record("t", 0, 0, 0, b"1", plain, headers)) == _Content(["no label", "a"], ["user"])
    assert _stored("dead_letters", ["no label", safe.decode()], ["", ""]) == _Content(["no label", "a"], [])
    assert _stored("dead_letters", ["", "not JSON"], ["", ""]) == _Content(["not JSON"], [])
    assert _stored("logs_labeled", ["a", ""], ["4711", "s-1"]) == _Content(["a"], ["user", "session"])
    assert _stored("logs_labeled", ["a", ""], [masked, ""]) == _Content(["a"], [])


@pytest.mark.parametrize(
    ("row_id", "told"),
    [("79161234567", ["id"]), ("a@b.ru", ["id"]), ("89161234567~0f", ["id"]), ("7916123456", []), ("42", [])],
)
def test_ids_of_rows_that_are_personal_are_told(row_id: str, told: list[str]) -> None:
    assert _stored("logs_labeled", ["a"], ["", ""], row_id).plain == told
    message = b'{"row_id":"%s","text":"a"}' % row_id.encode()
    assert _published(Record("t", 0, 0, 0, b"1", message)).plain == told


def test_a_column_of_users_is_no_column_of_ids_where_they_are_masked() -> None:
    given = {"CLICKHOUSE_ID_COLUMN": "phone", "CLICKHOUSE_USER_ID_COLUMN": "phone"}
    assert load(given, None).privacy == "off"
    with pytest.raises(ConfigurationError, match="CLICKHOUSE_ID_COLUMN is phone"):
        load({**given, "PRIVACY": "mask", "PRIVACY_SECRET": "a secret of some length"}, None)
