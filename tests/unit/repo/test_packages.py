"""What is installed for whom: extras, the image's locked packages and their size."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import Distribution, distribution

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from streams.core.errors import EXTRAS
from tests.unit.repo.command_lines import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
OPTIONAL: dict[str, list[str]] = PROJECT["optional-dependencies"]
LOCKS = {"agents": ["privacy"], "all": ["all"]}
# Megabytes on disk of the packages, for the largest role and for the agents.
MOST = {"all": 900, "agents": 450}
# The distributions whose modules have another name.
OF_MODULE = {"sklearn": "scikit-learn", "starlette": "fastapi"}

_START = """
import importlib.abc, os, sys

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

import pwd
def nobody(uid):
    raise KeyError(uid)
pwd.getpwuid = nobody
os.environ.pop("HOME", None)
sys.meta_path.insert(0, Missing())

from streams.cli import main
from streams.core.errors import ConfigurationError
from streams.roles.registry import Role, work_of

import streams.operations.check, streams.operations.status, streams.runtime.provisioning
for role in (Role.POLLER, Role.AGENTS):
    work_of(role)
for role in (Role.API, Role.SINK):
    try:
        work_of(role)
    except ConfigurationError as error:
        print(error, error.fix)
sys.argv[1:] = ["--version"]
main.main()
"""


def names(lock: str) -> dict[str, str]:
    """The locked packages with their versions."""
    text = (ROOT / "deploy" / "locks" / f"{lock}.lock").read_text("utf-8")
    return {
        canonicalize_name(name): version for name, version in re.findall(r"^(\S+)==(\S+)", text, re.MULTILINE)
    }


def installed(requirements: list[str]) -> dict[str, Distribution]:
    """The distributions that ``requirements`` need here, with those that they need."""
    found: dict[str, Distribution] = {}
    seen, todo = set[tuple[str, frozenset[str]]](), [Requirement(one) for one in requirements]
    while todo:
        one = todo.pop()
        name = canonicalize_name(one.name)
        if (name, frozenset(one.extras)) in seen:
            continue
        seen.add((name, frozenset(one.extras)))
        if name == "labelstream":
            todo += [Requirement(text) for extra in one.extras for text in OPTIONAL[extra]]
            continue
        found[name] = distribution(name)
        for needed in map(Requirement, found[name].requires or ()):
            extras = one.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                todo.append(needed)
    return found


def needed(lock: str) -> dict[str, Distribution]:
    return installed([*PROJECT["dependencies"], *(f"labelstream[{extra}]" for extra in LOCKS[lock])])


def test_a_role_starts_without_extras_for_a_user_without_a_home() -> None:
    found = subprocess.run(
        [sys.executable, "-c", _START.format(missing=set(EXTRAS))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    api, sink, version = found.stdout.splitlines()
    assert "the role api needs" in api
    assert "pip install 'labelstream[api]'" in api
    assert sink == "the role sink needs pyarrow, which is not installed pip install 'labelstream[arrow]'"
    assert version.startswith("labelstream ")


def test_the_extra_of_each_module_has_it() -> None:
    for module, extra in EXTRAS.items():
        wanted = canonicalize_name(OF_MODULE.get(module, module))
        assert wanted in {canonicalize_name(Requirement(one).name) for one in OPTIONAL[extra]}, module


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_has_what_the_project_needs_as_it_is_tested(lock: str) -> None:
    text = (ROOT / "deploy" / "locks" / f"{lock}.lock").read_text("utf-8")
    pinned = {
        canonicalize_name(name): version
        for name, version in re.findall(
            r"^(\S+)==(\S+)", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE
        )
    }
    locked = names(lock)
    assert set(needed(lock)) <= set(locked), "make locks"
    assert {name: pinned.get(name) for name in locked} == locked, "make locks"
    for entry in re.split(r"^(?=\S)", text, flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in entry, entry
    assert "://" not in text


@pytest.mark.parametrize("lock", LOCKS)
def test_the_packages_of_an_image_are_small(lock: str) -> None:
    size = 0
    for one in needed(lock).values():
        for file in one.files or ():
            # pip compiles modules when it installs them; the compiled one is about as large.
            size += (file.size or 0) * (2 if file.suffix == ".py" else 1)
    assert size / 1e6 <= MOST[lock]


def test_the_chosen_lock_of_the_image_exists() -> None:
    text = (ROOT / "Dockerfile").read_text("utf-8")
    (default,) = re.findall(r"^ARG PACKAGES=(\w+)$", text, re.MULTILINE)
    assert default in LOCKS
    assert {path.stem for path in (ROOT / "deploy" / "locks").glob("*.lock")} == {*LOCKS, "build"}
