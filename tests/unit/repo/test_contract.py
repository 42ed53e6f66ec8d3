"""What was promised to subscribers is kept: the committed documents are fresh, and schemas only grow."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
CONTRACT = ROOT / "docs" / "contract"
RELEASED = sorted((CONTRACT / "released").glob("*/*.json"))
_WORDS = ("description", "title", "$id", "$schema", "x-schema-version")


def breaches(released: Any, current: Any, where: str = "") -> Iterator[str]:
    """What ``current`` takes from somebody who reads by ``released``."""
    if not isinstance(released, dict) or not isinstance(current, dict):
        if released != current:
            yield f"{where}: {released!r} became {current!r}"
        return
    for name, value in released.items():
        if name in _WORDS or name == "required":
            continue
        if name not in current:
            yield f"{where}/{name} is gone"
        elif name in ("properties", "$defs"):
            for field, old in value.items():
                if field not in current[name]:
                    yield f"{where}/{name}/{field} is gone"
                else:
                    yield from breaches(old, current[name][field], f"{where}/{name}/{field}")
        else:
            yield from breaches(value, current[name], f"{where}/{name}")
    limits = set(current) - set(released) - {*_WORDS, "$defs"}
    if limits:
        yield f"{where}: {', '.join(sorted(limits))} was added"
    if set(released.get("required", ())) != set(current.get("required", ())):
        yield f"{where}: other fields are required"


def version_of(document: dict[str, Any]) -> tuple[int, int]:
    major, minor = document["$id"].rsplit(":", 1)[-1].split(".")
    return int(major), int(minor)


def meaning(document: Any) -> Any:
    if isinstance(document, dict):
        return {name: meaning(value) for name, value in document.items() if name not in _WORDS}
    return [meaning(item) for item in document] if isinstance(document, list) else document


def load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return loaded


def test_generated_files_are_fresh() -> None:
    checked = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


def test_every_schema_was_released() -> None:
    assert {path.name for path in RELEASED} == {path.name for path in CONTRACT.glob("*.json")} - {
        "asyncapi.json"
    }


@pytest.mark.parametrize("path", RELEASED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_schemas_only_grow_within_a_major_version(path: Path) -> None:
    released, current = load(path), load(CONTRACT / path.name)
    if version_of(current)[0] != version_of(released)[0]:
        pytest.skip("another major version")
    assert list(breaches(released, current)) == []
    if version_of(current) == version_of(released):
        assert meaning(current) == meaning(released), "raise schema_version: something was added"


def _drop_a_field(schema: dict[str, Any]) -> None:
    del schema["properties"]["user_id"]


def _change_a_type(schema: dict[str, Any]) -> None:
    schema["properties"]["cached"]["type"] = "string"


def _allow_null(schema: dict[str, Any]) -> None:
    schema["properties"]["label"] = {"anyOf": [{"type": "string"}, {"type": "null"}]}


def _widen_a_limit(schema: dict[str, Any]) -> None:
    schema["$defs"]["Alternative"]["properties"]["confidence"]["maximum"] = 100.0


def _no_longer_required(schema: dict[str, Any]) -> None:
    schema["required"].remove("label")


def _newly_required(schema: dict[str, Any]) -> None:
    schema["properties"]["tone"] = {"type": "string"}
    schema["required"].append("tone")


def _close_it(schema: dict[str, Any]) -> None:
    schema["additionalProperties"] = False


@pytest.mark.parametrize(
    "change",
    [
        _drop_a_field,
        _change_a_type,
        _allow_null,
        _widen_a_limit,
        _no_longer_required,
        _newly_required,
        _close_it,
    ],
)
def test_the_rule_sees_a_breach(change: Callable[[dict[str, Any]], None]) -> None:
    released = load(CONTRACT / "released" / "1.0" / "labeled.json")
    current = copy.deepcopy(released)
    change(current)
    assert list(breaches(released, current))


def test_the_rule_lets_an_addition_through() -> None:
    released = load(CONTRACT / "released" / "1.0" / "labeled.json")
    current = copy.deepcopy(released)
    current["properties"]["tone"] = {"type": "string"}
    current["description"] = "other words"
    assert list(breaches(released, current)) == []
    assert meaning(current) != meaning(released)
