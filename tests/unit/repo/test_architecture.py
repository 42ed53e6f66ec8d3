"""The architecture page shows the tree as it is and leads to files that exist; decisions have a date."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tests.unit.repo.command_lines import ROOT

PAGE = (ROOT / "docs/internals/architecture.md").read_text("utf-8")
PACKAGES = ("streams", "agents", "connectors")
# Folders whose own folders are named too, but no deeper ones: these follow the tree above, or hold no code.
SHALLOW = ("tests", "docs", "deploy")
MADE = re.compile(r"\..*|__pycache__|build|dist|.*\.egg-info")


def named() -> list[str]:
    """The folders of the page's tree, as paths, in its order."""
    _, _, after = PAGE.partition("## The folders")
    tree = after.split("```")[1]
    path: list[str] = []
    found = []
    for line in tree.strip().splitlines():
        indent, folder, description = re.fullmatch(r"( *)(\w+)/ *(.*)", line).groups()  # type: ignore[union-attr]
        assert description or folder == "tests", f"{folder} has no description"
        path[len(indent) // 2 :] = [folder]
        found.append("/".join(path))
    return found


def folders(under: Path) -> Iterator[Path]:
    for path in sorted(under.iterdir()):
        if path.is_dir() and not MADE.fullmatch(path.name):
            yield path


def standing() -> Iterator[str]:
    """The folders that the page has to name."""
    for top in folders(ROOT):
        if not any(top.rglob("*.*")):
            continue  # left behind by a branch that had files there
        yield top.name
        if top.name in PACKAGES:
            # Packages, and what lies in one without being one, such as prompts.
            inside = (folder for package in top.rglob("__init__.py") for folder in folders(package.parent))
            yield from (path.relative_to(ROOT).as_posix() for path in inside if any(path.rglob("*.*")))
        elif top.name in SHALLOW:
            yield from (path.relative_to(ROOT).as_posix() for path in folders(top) if any(path.rglob("*.*")))


def test_the_tree_names_each_folder_and_no_other() -> None:
    assert sorted(named()) == sorted(standing())


def test_streams_is_listed_from_the_top_layer_to_the_bottom_one() -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    _, _, contract = text.partition('containers = ["streams"]')
    layers = re.findall(r'"([^"]+)"', contract.partition("exhaustive")[0])
    level = {folder: at for at, layer in enumerate(layers) for folder in layer.split(" | ")}
    listed = [level[path.split("/")[1]] for path in named() if path.startswith("streams/")]
    assert listed == sorted(listed)


def test_the_files_that_answer_a_question_exist() -> None:
    _, _, after = PAGE.partition("## Where do I look for")
    answers = [line for line in after.split("\n## ")[0].splitlines() if line.startswith("| ")][1:]
    assert len(answers) >= 10
    for line in answers:
        question, answer = line.strip("| ").split(" | ")
        paths = re.findall(r"`([\w./-]+)`", answer)
        assert paths, question
        assert all((ROOT / path).exists() for path in paths), line


def test_each_decision_has_a_status_and_a_date_and_is_listed_with_them() -> None:
    folder = ROOT / "docs/internals/adr"
    lines = {}
    for path in sorted(folder.glob("0*.md")):
        title, _, stated, *_ = path.read_text("utf-8").split("\n")
        found = re.fullmatch(r"Status: (\w+)(?: by .*)? · Date: (\d{4}-\d\d-\d\d)", stated)
        assert found, path
        number, subject = title.removeprefix("# ").split(": ", 1)
        lines[number] = f"| [{number}]({path.name}) | {subject} | {found[1]} | {found[2]} |"
    listed = [line for line in (folder / "README.md").read_text("utf-8").splitlines() if line[:3] == "| ["]
    assert listed == list(lines.values())
