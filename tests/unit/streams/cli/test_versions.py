"""`labelstream versions promote`: what it prints where the gate refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from streams.cli.versions.commands import versions_app
from streams.core.errors import GateError
from streams.core.settings import Settings


async def promote(_: Settings, version: str, *, force: bool, audited_as: str) -> dict[str, Any]:
    assert audited_as
    verdict = {"answer": "worse", "text": "worse: by 5 points"}
    if not force:
        raise GateError(verdict["text"], {**verdict})
    return {"version": version, "status": "promoted", "current": version, "verdict": verdict, "forced": True}


def test_a_refusal_is_an_error_with_its_verdict_and_may_be_forced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("streams.versions.commands.promote", promote)
    refused = CliRunner().invoke(versions_app, ["promote", "v2", "--json"])
    assert isinstance(refused.exception, GateError)
    told = json.loads(refused.stdout.splitlines()[-1])
    assert (told["promoted"], told["verdict"]["answer"]) == (False, "worse")
    assert CliRunner().invoke(versions_app, ["promote", "v2"]).stdout == ""
    forced = CliRunner().invoke(versions_app, ["promote", "v2", "--force"])
    assert forced.exit_code == 0
    assert forced.stdout.splitlines() == ["worse: by 5 points", "v2 is promoted; the current version is v2"]
