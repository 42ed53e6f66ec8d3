"""The import contracts hold, and each sees what breaks it."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("streams", "agents", "connectors")
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")
MOST_FILES = 20

# A statement, or a new folder, that each contract must refuse: by the beginning of the contract's name.
BREACHES = {
    "Layers:": ("agents/check.py", "import streams.runtime.lifecycle"),
    "Every folder of streams": ("streams/newcomer/__init__.py", ""),
    "Inside the ClickHouse connector": ("connectors/clickhouse/newcomer/__init__.py", ""),
    "Inside the poller": (
        "connectors/clickhouse/poller/backfill.py",
        "import connectors.clickhouse.poller.lost.lost_rows",
    ),
    "Inside the API connector": ("connectors/api/newcomer.py", ""),
    "Connectors do not import each other": ("connectors/llm/cache.py", "import connectors.kafka.lease"),
    "Roles do not import each other": ("streams/roles/sink.py", "import streams.roles.poller"),
    "Only the Faust app knows Faust": ("streams/delivery/outbox.py", "import faust"),
    "Only the Kafka connector and the Faust app": ("streams/core/codec.py", "import aiokafka"),
    "Only the ClickHouse connector knows": ("streams/core/times.py", "import clickhouse_connect"),
    "Only the API and the local stack serve": ("agents/taxonomy.py", "import fastapi"),
    "Only the LLM connector speaks": ("agents/augment.py", "import httpx"),
    "Traces need no package": ("streams/ports/spans.py", "import opentelemetry"),
    "Only the local stack embeds": ("streams/core/topics.py", "import chdb"),
}


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(LINT_IMPORTS), "--no-cache"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(folder), "COLUMNS": "300", "PATH": "/usr/bin:/bin"},
    )


def contracts() -> list[str]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    return [contract["name"] for contract in settings["tool"]["importlinter"]["contracts"]]


def test_the_contracts_hold() -> None:
    checked = lint(ROOT)
    assert checked.returncode == 0, checked.stdout


def test_each_contract_sees_a_breach(tmp_path: Path) -> None:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name in contracts():
        path, statement = next(breach for start, breach in BREACHES.items() if name.startswith(start))
        (tmp_path / path).parent.mkdir(exist_ok=True)
        with (tmp_path / path).open("a", encoding="utf-8") as file:
            file.write(f"\n{statement}\n")
    checked = lint(tmp_path)
    broken = set(re.findall(r"^(.*) BROKEN", checked.stdout, re.MULTILINE))
    assert broken == set(contracts()), checked.stdout


def test_no_folder_has_more_files_than_one_remembers() -> None:
    folders = {path.parent for top in (*PACKAGES, "tests", "bench") for path in (ROOT / top).rglob("*.py")}
    assert {folder: n for folder in folders if (n := len(list(folder.glob("*.py")))) > MOST_FILES} == {}


def test_each_folder_says_what_belongs_there() -> None:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("__init__.py"):
            assert path.read_text("utf-8").startswith('"""'), path


def test_no_two_public_classes_have_one_name() -> None:
    names = Counter(
        node.name
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert [name for name, count in names.items() if count > 1] == []
