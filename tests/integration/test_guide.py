"""The guide's commands, run in its order on a real stack; the Russian guide has the same ones."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.pipeline import ROOT, Pipeline
from tests.integration.test_observability import create, insert

GUIDE, RUSSIAN = ROOT / "docs/guide/guide.md", ROOT / "docs/guide/ru/guide.md"
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
ROWS = 24


def blocks(page: Path) -> list[tuple[str, str]]:
    return _BLOCK.findall(page.read_text("utf-8"))


def commands(page: Path) -> list[list[str]]:
    """The words of every labelstream command in the page's shell blocks, in order."""
    lines = [line for language, block in blocks(page) if language == "sh" for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("labelstream ")]


def test_the_russian_guide_shows_the_same() -> None:
    assert blocks(GUIDE) == blocks(RUSSIAN)
    headings = [re.findall(r"^(#+) ", page.read_text("utf-8"), re.MULTILINE) for page in (GUIDE, RUSSIAN)]
    assert headings[0] == headings[1]
    named = [set(re.findall(r"`([A-Z][A-Z_]+)`", page.read_text("utf-8"))) for page in (GUIDE, RUSSIAN)]
    assert named[0] == named[1]


def test_the_guide_s_commands_do_what_it_says(make: Callable[..., Pipeline]) -> None:
    flow = make(LABEL_VERSION="v1")
    create(flow)
    insert(flow, 0, ROWS)
    shutil.copy(ROOT / "taxonomy.yaml", flow.folder)
    new = (ROOT / "taxonomy.yaml").read_text("utf-8")
    (flow.folder / "new.yaml").write_text(new.replace("Доставка заказа", "Доставка посылки", 1), "utf-8")
    done: list[str] = []
    for words in commands(GUIDE):
        words = [word.replace("esk.", f"{flow.prefix}.") for word in words]
        if words == ["run", "all"]:
            # Each role by itself, as the guide says one may; the same processes, without the API's port.
            flow.start("poller", "agents", "sink")
            flow.wait(lambda: flow.count("logs_augmented") == ROWS, "all rows stored")
        else:
            ended = flow.command(*words)
            assert ended.returncode == 0, f"{words}\n{ended.stdout}\n{ended.stderr}\n{flow.explain()}"
            assert "Traceback" not in ended.stderr
        done.append(" ".join(words))
    assert len(done) > 15
    versions = json.loads(flow.command("versions", "list", "--json").stdout.strip().splitlines()[-1])
    found = {one["version"]: one for one in versions["versions"]}
    assert found["v1"]["current"]
    assert (found["v1"]["rows"], found["v2"]["rows"]) == (ROWS, ROWS)
    assert flow.count("logs_labeled_current") == ROWS


@pytest.mark.parametrize("page", [GUIDE, RUSSIAN], ids=["en", "ru"])
def test_the_guide_shows_the_whole_way(page: Path) -> None:
    first = {words[0] for words in commands(page)}
    assert first >= {"init", "check", "run", "status", "tap", "replay", "versions", "dead-letters"}
