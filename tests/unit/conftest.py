"""Unit tests start no server: one that starts a part of the local stack, Java or a browser fails."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

_SERVERS = ("connectors.local.clickhouse", "connectors.llm.standin", "kafka.Kafka", "kafka.tools.StorageTool")
_PROGRAMS = ("java", "chromium", "google-chrome", "chrome")
_COMMANDS = ({"local", "up"}, {"demo"})
_FOLDER = Path(__file__).parent
_watching = False


def _look(event: str, arguments: Sequence[Any]) -> None:
    if not _watching:
        return
    if event == "import" and arguments[0] == "chdb":
        pytest.fail("a unit test loads the ClickHouse engine: it belongs to tests/integration")
    if event in ("subprocess.Popen", "os.posix_spawn", "os.exec"):
        words = [str(arguments[0]), *map(str, arguments[1] if not isinstance(arguments[1], str) else ())]
        if _starts_a_server(words):
            pytest.fail(f"a unit test starts a server: it belongs to tests/integration\n{' '.join(words)}")


def _starts_a_server(words: list[str]) -> bool:
    given = set(words)
    if "--help" in given:
        return False
    product = any(word == "streams.cli" or Path(word).name == "labelstream" for word in words)
    return (
        bool(given.intersection(_SERVERS))
        or Path(words[0]).name in _PROGRAMS
        or (product and any(given >= command for command in _COMMANDS))
    )


sys.addaudithook(_look)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    global _watching
    # This hook is asked for every test of a run, those of other folders too.
    _watching = item.path.is_relative_to(_FOLDER)
    try:
        return (yield)  # type: ignore[return-value]
    finally:
        _watching = False
