"""The chart, its sets of values, and the real helm that renders them, if it is here."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.unit.repo.command_lines import ROOT

HERE = Path(__file__).parent
CHART = ROOT / "deploy" / "helm" / "labelstream"
BASE = HERE / "base.yaml"
SETS = {path.stem: path for path in sorted((HERE / "values").glob("*.yaml"))}
GOLDEN = ("minimal", "everything", "openshift", "no-api")
RELEASE, NAMESPACE = "calls", "streams"
NEWEST, OLDEST = "1.37", "1.25"
MADE_FROM = "# Made by `make helm-golden`. Of sources with the digest "


def find_helm() -> str | None:
    """The path of helm: what `make helm` has built, or one on PATH."""
    built = ROOT / ".labelstream" / "bin" / "helm"
    return str(built) if built.is_file() else shutil.which("helm")


def run_helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run helm; it reads nothing of the user's."""
    helm = find_helm()
    assert helm, "make helm"
    nowhere = {f"HELM_{kind}_HOME": str(HERE / "no-folder") for kind in ("CACHE", "CONFIG", "DATA")}
    return subprocess.run(
        [helm, *arguments],
        env={"PATH": os.environ["PATH"], **nowhere},
        capture_output=True,
        text=True,
        check=False,
    )


def template(*values: Path | str, kubernetes: str = NEWEST) -> subprocess.CompletedProcess[str]:
    """`helm template` with files of values, or with `name=value`."""
    given = [
        word for one in values for word in (("-f", str(one)) if isinstance(one, Path) else ("--set", one))
    ]
    return run_helm(
        "template", RELEASE, str(CHART), "--namespace", NAMESPACE, "--kube-version", kubernetes, *given
    )


def rendered(name: str, kubernetes: str = NEWEST) -> str:
    """What the set of values ``name`` becomes."""
    found = template(BASE, SETS[name], kubernetes=kubernetes)
    assert found.returncode == 0, found.stderr
    return found.stdout


def objects(text: str) -> list[dict[str, Any]]:
    """The objects of a rendered chart."""
    return [one for one in yaml.load_all(text, yaml.CSafeLoader) if one]


def digest(name: str) -> str:
    """What the rendered set depends on. The schema and `files/`, which are made from other sources, change
    nothing in the golden sets.
    """
    sources = [CHART / "Chart.yaml", CHART / "values.yaml", *sorted((CHART / "templates").rglob("*.*"))]
    hashed = hashlib.sha256()
    for path in [*sources, BASE, SETS[name]]:
        hashed.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    return hashed.hexdigest()


def golden(name: str) -> Path:
    """Where the rendered set is kept."""
    return HERE / "golden" / f"{name}.yaml"


def main() -> None:
    """Write the golden files."""
    for name in GOLDEN:
        golden(name).write_text(f"{MADE_FROM}{digest(name)}\n{rendered(name)}", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
