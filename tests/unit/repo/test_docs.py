"""What the documents show exists: commands, tasks, services, files, headings, tables."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from streams.core.settings import Settings
from tests.unit.repo.command_lines import ROOT, make_targets, refusal
from tests.unit.repo.pages import FENCE, PAGES, blocks

SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def command_lines(page: Path) -> Iterator[list[str]]:
    """The words of each command line in fenced blocks and in inline code."""
    text = page.read_text("utf-8")
    lines = [line for _, block in FENCE.findall(text) for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
    for line in lines:
        bare = re.sub(r"^[A-Z_]+=\S+ ", "", line.strip())
        if bare.startswith(("labelstream ", "make ", "docker compose ")) and "..." not in bare:
            yield shlex.split(bare, comments=True)


ALL_LINES = [(name_of(page), words) for page in PAGES for words in command_lines(page)]


def lines_of(*programs: str) -> list[list[str]]:
    return [words for _, words in ALL_LINES if words[0] in programs]


def test_each_command_that_is_shown_exists() -> None:
    shown = {" ".join(words): words[1:] for words in lines_of("labelstream")}
    refused = {line: refusal(words) for line, words in shown.items()}
    assert {line: why for line, why in refused.items() if why is not None} == {}


def test_each_task_that_is_shown_exists() -> None:
    assert {words[1] for words in lines_of("make")} <= make_targets()


@pytest.mark.parametrize("words", lines_of("docker"), ids=" ".join)
def test_services_and_profiles_that_are_shown_exist(words: list[str]) -> None:
    profiles = {profile for service in SERVICES.values() for profile in service.get("profiles", [])}
    verb = "run" if "run" in words else "up"
    named = [word.split("=")[0] for word in words[words.index(verb) + 1 :] if not word.startswith("-")]
    if verb == "run":
        assert refusal(named[1:]) is None
        named = named[:1]
    assert set(named) <= set(SERVICES)
    if "--profile" in words:
        assert words[words.index("--profile") + 1] in profiles


def test_the_pages_show_commands_at_all() -> None:
    shown = {page for page, _ in ALL_LINES}
    assert {"README.md", "README.ru.md", "docs/guide/operations.md", "docs/guide/subscribers.md"} <= shown
    assert len(lines_of("labelstream")) > 20
    assert refusal(["chekc"]) is not None
    assert refusal(["local", "up", "--kafka-prot", "1"]) is not None
    assert refusal(["run", "nobody"]) is not None


def test_make_help_lists_every_task() -> None:
    shown = subprocess.run(["make", "-s", "help"], cwd=ROOT, check=True, capture_output=True, text=True)
    lines = [line.split(maxsplit=1) for line in shown.stdout.splitlines()]
    assert {words[0] for words in lines} == make_targets()
    assert all(len(words) == 2 for words in lines)


def test_every_task_runs_though_a_folder_has_its_name() -> None:
    text = (ROOT / "Makefile").read_text("utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.*)", text, re.MULTILINE)
    assert set(phony.split()) == make_targets()


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)", FENCE.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text("utf-8"))):
        assert "://" not in target, "pages must be whole without a network"
        file, _, anchor = target.partition("#")
        linked = (page.parent / file).resolve() if file else page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked), target


@pytest.mark.parametrize("page", ["README.md", "README.ru.md"])
def test_a_readme_stays_short_and_leads_to_the_rest(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    assert len(text.split()) <= 500
    assert "](docs/index.md)" in text
    assert text.count("![") == 1


def test_the_index_leads_to_each_page() -> None:
    docs = ROOT / "docs"
    linked = set(re.findall(r"\]\(([^)#\s]+)", (docs / "index.md").read_text("utf-8")))
    pages = [*(docs / "guide").rglob("*.md"), *docs.glob("reference/*"), *docs.glob("internals/*.md")]
    assert {path.relative_to(docs).as_posix() for path in pages} <= linked


def test_the_changelog_has_the_version_that_is_installed() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    headings = re.findall(r"^## (.*)", text, re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    released = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert re.fullmatch(rf"\[{re.escape(released)}\] - \d{{4}}-\d\d-\d\d", headings[1])


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_settings_that_are_named_exist(page: Path) -> None:
    settings = {name.upper() for name in Settings.model_fields}
    families = tuple({name.split("_")[0] + "_" for name in settings})
    # In the changelog a setting may be one that is gone.
    if page.name == "CHANGELOG.md":
        return
    for name in re.findall(r"`([A-Z][A-Z_]+[A-Z])(?:=[^`]*)?`", page.read_text("utf-8")):
        if name.startswith(families) and " " not in name:
            assert name in settings


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_that_is_shown_imports_what_exists(page: Path) -> None:
    for language, block in blocks(page):
        if language == "python":
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.ImportFrom) and node.module:
                    module = importlib.import_module(node.module)
                    assert all(hasattr(module, alias.name) for alias in node.names)
