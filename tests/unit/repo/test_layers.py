"""The import contracts hold, and see what breaks them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("streams", "agents", "connectors")
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(LINT_IMPORTS), "--no-cache"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(folder), "COLUMNS": "300", "PATH": "/usr/bin:/bin"},
    )


def test_the_contracts_hold() -> None:
    checked = lint(ROOT)
    assert checked.returncode == 0, checked.stdout


def test_each_contract_sees_a_breach(tmp_path: Path) -> None:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    breaches = {
        "agents/check.py": "import faust, aiokafka, clickhouse_connect, httpx, chdb, connectors.kafka.lease",
        "agents/taxonomy.py": "import fastapi",
        # By way of a module that no layer names.
        "connectors/kafka/lease.py": "import streams.unnamed",
        "streams/unnamed.py": "import connectors.clickhouse.client.client",
        "streams/core/text.py": "import streams.cli.main",
    }
    for path, statement in breaches.items():
        with (tmp_path / path).open("a", encoding="utf-8") as file:
            file.write(f"\n{statement}\n")
    checked = lint(tmp_path)
    kept, broken = re.findall(r"Contracts: (\d+) kept, (\d+) broken", checked.stdout)[0]
    assert (int(kept), checked.returncode) == (0, 1), checked.stdout
    assert int(broken) == 8
