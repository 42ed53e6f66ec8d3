"""The image and the compose file fit the code: commands, settings, and what they open to the outside."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from streams.core.settings import Settings
from tests.unit.repo.command_lines import ROOT, refusal

BIN = Path(sys.executable).parent
SETTINGS = {name.upper() for name in Settings.model_fields}
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_compose_file_has_the_form_of_the_compose_specification() -> None:
    checked = run(
        str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_dockerfile_passes_hadolint() -> None:
    checked = run(str(BIN / "hadolint"), "Dockerfile")
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("name", OURS)
def test_a_service_runs_a_command_that_exists(name: str) -> None:
    service = OURS[name]
    if "entrypoint" in service:
        *python, module = service["entrypoint"]
        assert python == ["python", "-m"]
        asked = run(sys.executable, "-m", module, *service["command"], "--help")
        assert asked.returncode == 0, asked.stderr
    else:
        assert refusal(service["command"]) is None


@pytest.mark.parametrize("name", OURS)
def test_a_service_s_environment_is_made_of_settings(name: str) -> None:
    assert set(OURS[name]["environment"]) <= SETTINGS


def test_the_compose_file_takes_its_variables_from_settings() -> None:
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    assert set(re.findall(r"\$\{(\w+)", text)) <= SETTINGS


def test_every_role_is_a_service() -> None:
    from streams.cli.main import Role

    running = {service["command"][1] for service in OURS.values() if service["command"][0] == "run"}
    assert running == {role.value for role in Role} - {"all"}


def test_nothing_is_published_but_on_this_machine() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert not any("network_mode" in service or service.get("privileged") for service in SERVICES.values())


def test_what_runs_is_restarted_and_watched() -> None:
    for name, service in SERVICES.items():
        if name == "init":
            assert service["restart"] == "on-failure"
        else:
            assert service["restart"] == "unless-stopped"
            assert "build" in service or "test" in service["healthcheck"]


def test_the_image_is_not_root_s_and_has_a_health_check() -> None:
    last = DOCKERFILE.split("\nFROM ")[-1]
    user = re.findall(r"^USER (\S+)", last, re.MULTILINE)
    assert len(user) == 1
    assert not user[0].startswith(("root", "0"))
    assert DOCKERFILE.count("\nFROM ") >= 1, "more than one stage"


def test_the_image_s_command_and_settings_exist() -> None:
    found = re.search(r"^CMD (\[.*\])", DOCKERFILE, re.MULTILINE)
    assert found
    assert refusal(json.loads(found[1])) is None
    names = re.findall(r"(\w+)=\S+", " ".join(re.findall(r"^ENV (.*)", DOCKERFILE, re.MULTILINE)))
    assert {name for name in names if name != "PATH" and not name.startswith("PYTHON")} <= SETTINGS


def test_the_image_is_built_from_what_is_there_and_let_in() -> None:
    let_in = {
        line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line[:1] == "!"
    }
    for arguments in re.findall(r"^COPY (?!--from)(.*)", DOCKERFILE, re.MULTILINE):
        for source in arguments.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert source in let_in, source
