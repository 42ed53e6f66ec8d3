"""The guide, in both languages: the same commands, and the whole way."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.repo.pages import GUIDE, blocks, labelstream_commands
from tests.unit.repo.pages import RUSSIAN_GUIDE as RUSSIAN


def test_the_russian_guide_shows_the_same() -> None:
    assert list(blocks(GUIDE)) == list(blocks(RUSSIAN))
    headings = [re.findall(r"^(#+) ", page.read_text("utf-8"), re.MULTILINE) for page in (GUIDE, RUSSIAN)]
    assert headings[0] == headings[1]
    named = [set(re.findall(r"`([A-Z][A-Z_]+)`", page.read_text("utf-8"))) for page in (GUIDE, RUSSIAN)]
    assert named[0] == named[1]


@pytest.mark.parametrize("page", [GUIDE, RUSSIAN], ids=["en", "ru"])
def test_the_guide_shows_the_whole_way(page: Path) -> None:
    first = {words[0] for words in labelstream_commands(page)}
    assert first >= {"init", "check", "run", "status", "tap", "replay", "versions", "dead-letters"}
