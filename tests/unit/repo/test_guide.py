"""The guide, in both languages: the same commands, and the whole way."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.repo.pages import (
    GUIDE,
    QUALITY,
    RUSSIAN_QUALITY,
    RUSSIAN_UPGRADE,
    UPGRADE,
    blocks,
    labelstream_commands,
)
from tests.unit.repo.pages import RUSSIAN_GUIDE as RUSSIAN


@pytest.mark.parametrize(
    "pages",
    [(GUIDE, RUSSIAN), (QUALITY, RUSSIAN_QUALITY), (UPGRADE, RUSSIAN_UPGRADE)],
    ids=["guide", "quality", "upgrade"],
)
def test_the_russian_guide_shows_the_same(pages: tuple[Path, Path]) -> None:
    english, russian = pages
    assert list(blocks(english)) == list(blocks(russian))
    headings = [re.findall(r"^(#+) ", page.read_text("utf-8"), re.MULTILINE) for page in pages]
    assert headings[0] == headings[1]
    named = [set(re.findall(r"`([A-Z][A-Z_]+)`", page.read_text("utf-8"))) for page in pages]
    assert named[0] == named[1]


@pytest.mark.parametrize("page", [GUIDE, RUSSIAN], ids=["en", "ru"])
def test_the_guide_shows_the_whole_way(page: Path) -> None:
    first = {words[0] for words in labelstream_commands(page)}
    assert first >= {"init", "check", "run", "status", "tap", "replay", "versions", "dead-letters"}
