"""The documents, and the fenced blocks in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from tests.unit.repo.command_lines import ROOT

GUIDE, RUSSIAN_GUIDE = ROOT / "docs/guide/guide.md", ROOT / "docs/guide/ru/guide.md"
QUALITY, RUSSIAN_QUALITY = ROOT / "docs/guide/quality.md", ROOT / "docs/guide/ru/quality.md"
UPGRADE, RUSSIAN_UPGRADE = ROOT / "docs/guide/upgrade.md", ROOT / "docs/guide/ru/upgrade.md"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Language and text of each fenced block."""
    yield from FENCE.findall(page.read_text("utf-8"))


def labelstream_commands(page: Path) -> list[list[str]]:
    """The words of every labelstream command in the page's shell blocks, in order."""
    lines = [line for language, block in blocks(page) if language == "sh" for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("labelstream ")]
