"""The pipeline over two endpoints of one model: a slow one, and one that dies twice."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from connectors.local.processes import free_port
from tests.integration.pipeline import ROOT, Pipeline, keys, standin
from tests.waiting import PATIENCE, until

ROWS = 500
_TAXONOMY = str(ROOT / "taxonomy.yaml")


class Server:
    """A stand-in with four slots and no queue, which may be killed and started again at its address."""

    def __init__(self, token_seconds: float) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.statuses: Counter[str] = Counter()
        self._words = ["--slots", "4", "--queue", "0", "--full-status", "429"]
        self._words += ["--token-seconds", str(token_seconds), "--taxonomy", _TAXONOMY]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "connectors.llm.standin", "--port", str(self.port), *self._words]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        until(self._answers)

    def answered(self) -> int:
        """Since it was started."""
        return int(standin(self.url)["statuses"].get("200", 0))

    def kill(self) -> None:
        """In the middle of its answers."""
        if self._process is not None:
            self.statuses.update(standin(self.url)["statuses"])
            self._process.kill()
            self._process.wait(PATIENCE)
            self._process = None

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None
        try:
            return bool(standin(self.url))
        except OSError:
            return False


@pytest.fixture
def servers() -> Iterator[tuple[Server, Server]]:
    both = Server(0.002), Server(0.02)
    for one in both:
        one.start()
    yield both
    for one in both:
        one.kill()


async def test_nothing_is_lost_while_one_is_slow_and_one_dies_twice(
    make: Callable[..., Pipeline], servers: tuple[Server, Server]
) -> None:
    dying, slow = servers
    flow = make(
        LLM_LABELER_API_BASE=f"{dying.url}, {slow.url}", LLM_LABELER_CONCURRENCY="16", AUGMENT_VARIANTS="0"
    )
    flow.create()
    client = flow.clickhouse()
    now = datetime.now(UTC)
    rows = [[number, f"где мой заказ номер {number}", now] for number in range(ROWS)]
    client.insert("logs", rows, column_names=["id", "query_text", "created_at"], database=flow.database)
    client.close()
    flow.start("poller", "agents", "sink")
    for _ in range(2):
        flow.wait(lambda: dying.answered() > 20, "the fast one answers")
        dying.kill()
        wanted = slow.answered() + 20
        flow.wait(lambda wanted=wanted: slow.answered() >= wanted, "the slow one goes on")
        dying.start()
    flow.wait(lambda: flow.count("logs_labeled") == ROWS, "every row is labelled")
    flow.stop()
    assert Counter(keys(await flow.topic("labeled"))) == Counter(str(number) for number in range(ROWS))
    assert await flow.topic("dead-letter") == []
    assert "endpoint is away" in flow.log("agents")
    for one in servers:
        one.kill()
        # Each finds its limit, and stays there: refusals are few, not one for each answer.
        assert one.statuses["429"] < one.statuses["200"] / 2, one.statuses


def test_endpoints_of_different_models_are_refused_by_name(make: Callable[..., Pipeline]) -> None:
    other = Server(0.002)
    other._words += ["--model", "another"]
    other.start()
    try:
        flow = make(AUGMENT_VARIANTS="0")
        base = f"{flow.llm},{other.url}"
        flow.create()
        checked = flow.command("check", LLM_LABELER_API_BASE=base)
        assert checked.returncode == 1
        assert f"127.0.0.1:{other.port} has another" in " ".join(checked.stdout.split())
        flow.start("agents", LLM_LABELER_API_BASE=base)
        flow.wait(lambda: "different models" in flow.log("agents"), "the reason in the log")
    finally:
        other.kill()
