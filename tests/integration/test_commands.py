"""The commands as a user meets them: demo, check, tap, local."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import clickhouse_connect
import psutil
import pytest

from connectors.local.stack import LocalStack, StackStatus
from tests import fork_server
from tests.integration.contract_reader import judge
from tests.integration.pipeline import ROOT, Pipeline
from tests.stack import SharedStack, fresh_name, shared_jars
from tests.waiting import PATIENCE, until


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """An empty folder with a taxonomy and the jars that are here; its stack is stopped at the end."""
    shutil.copy(ROOT / "taxonomy.yaml", tmp_path)
    (tmp_path / ".labelstream").mkdir()
    (tmp_path / ".labelstream" / "jars").symlink_to(shared_jars())
    yield tmp_path
    run(tmp_path, "local", "down")


def run(folder: Path, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """A command, to its end."""
    return fork_server.run(words, clean() | settings, folder)


def shell(folder: Path, line: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """A line for the shell, to its end."""
    return subprocess.run(
        ["bash", "-c", line],
        env=clean() | settings,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "streams.cli", *words]


def clean() -> dict[str, str]:
    ours = ("CLICKHOUSE_", "KAFKA_", "LLM_", "TOPIC_", "LABELSTREAM_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "PYTHONPATH": str(ROOT)}


def test_the_demos_figures_are_those_of_topics_tables_and_endpoint(
    shared: SharedStack, tmp_path: Path
) -> None:
    """On the stack of all tests, to which it adds a model."""
    shutil.copy(ROOT / "taxonomy.yaml", tmp_path)
    shared.kafka()
    shared.clickhouse()
    name, data = fresh_name("demo"), shared.folder / "shared"
    ours = {"LABELSTREAM_DATA": str(data), "TOPIC_PREFIX": name, "CLICKHOUSE_DATABASE": name}
    try:
        assert run(tmp_path, "local", "up", "--json", **ours).returncode == 0
        judge_demo(tmp_path, name, ours)
    finally:
        LocalStack(data).down(["llm"])


def judge_demo(folder: Path, name: str, ours: dict[str, str]) -> None:
    done = run(folder, "demo", "--rows", "200", "--json", **ours)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.strip().splitlines()[-1])
    seconds = figures.pop("seconds")
    assert seconds > 0
    calls = figures.pop("llm_calls")
    assert figures == {"rows": 200, "labeled": 200, "augmented": 200, "stored": 200, "dead_letters": 0}

    # What was running before the demo still runs after it, with the data of the run.
    status = json.loads(run(folder, "local", "status", "--json", **ours).stdout.strip().splitlines()[-1])
    assert [status[part]["state"] for part in ("kafka", "clickhouse", "llm")] == ["running"] * 3
    client = clickhouse_connect.get_client(host="127.0.0.1", port=status["clickhouse"]["port"])

    def counted(figures: str, table: str) -> list[int]:
        return list(client.query(f"SELECT {figures} FROM {name}.{table}").result_rows[0])

    for table in ("logs_labeled", "logs_labeled_current", "logs_augmented"):
        assert counted("count(), uniqExact(row_id)", table) == [200, 200]
    assert counted("count()", "logs") == [200]
    (distinct,) = counted("uniqExact(lower(text))", "logs_labeled")
    # The variants of some rows, drawn at random, are labelled, too.
    (verified,) = counted("sum(verify_calls)", "logs_augmented")
    assert 2 * distinct >= calls - verified >= distinct
    client.close()

    # A subscriber who knows the published contract alone finds nothing to complain about.
    judged = judge(status["kafka"]["address"], name, 10_000)
    assert {topic: wrong for topic, (_, wrong) in judged.items() if wrong} == {}
    assert {topic: read for topic, (read, _) in judged.items() if read} == {
        f"{name}.rows": 200,
        f"{name}.labeled": 200,
        f"{name}.augmented": 200,
    }

    tapped = run(folder, "tap", f"{name}.labeled", "--beginning", "--count", "5", **ours)
    lines = [json.loads(line) for line in tapped.stdout.splitlines()]
    assert len(lines) == 5
    assert all(line["value"]["label"] and line["key"] == line["value"]["row_id"] for line in lines)
    # Whoever reads has had enough, on a topic with more messages and on one where no more come.
    for topic in (f"{name}.labeled", f"{name}.cursor"):
        tap = shlex.join(command("tap", topic, "--beginning"))
        piped = shell(folder, f"set -o pipefail; {tap} | head -n 1", **ours)
        assert (piped.returncode, piped.stderr) == (0, "")
        assert json.loads(piped.stdout)["topic"] == topic


def test_ctrl_c_leaves_nothing_of_the_demo_running(folder: Path) -> None:
    with (folder / "demo.err").open("wb") as errors:
        demo = subprocess.Popen(command("demo", "--rows", "0"), env=clean(), cwd=folder, stderr=errors)
    tree = psutil.Process(demo.pid)

    def told() -> str:
        return (folder / "demo.err").read_text()

    def stored() -> bool:
        assert demo.poll() is None, told()
        return "stored" in told()

    until(stored, told, measure=told)
    children = tree.children(recursive=True)
    state = json.loads((folder / ".labelstream" / "stack.json").read_text())
    parts = [psutil.Process(part["pid"]) for part in state.values()]
    assert len(children) >= 3
    assert len(parts) == 3
    demo.send_signal(signal.SIGINT)
    demo.wait(PATIENCE)
    _, alive = psutil.wait_procs([*children, *parts], timeout=PATIENCE)
    assert alive == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"CLICKHOUSE_PASSWORD": "wrong-password"}, ["refuses access", "CLICKHOUSE_PASSWORD"]),
        ({"CLICKHOUSE_TABLE": "nope"}, ["no table", "CLICKHOUSE_TABLE"]),
        ({"CLICKHOUSE_TEXT_COLUMN": "msg"}, ["no column msg", "CLICKHOUSE_TEXT_COLUMN", "query_text"]),
        ({"LLM_LABELER_MODEL": "gpt-nope"}, ["gpt-nope", "LLM_LABELER_MODEL", "labelstream-standin"]),
        ({"TOPIC_PARTITIONS": "3"}, ["4 partitions", "TOPIC_PARTITIONS"]),
        ({"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}, ["Kafka does not answer", "KAFKA_BOOTSTRAP_SERVERS"]),
    ],
)
def test_check_names_what_is_wrong_and_what_to_do(
    checked: Pipeline, settings: dict[str, str], words: list[str]
) -> None:
    done = checked.command("check", **settings)
    assert done.returncode == 1
    failed = "\n".join(part for part in done.stdout.split("\n") if part.startswith(("FAIL", "  ")))
    assert all(word in failed for word in words), done.stdout
    assert "wrong-password" not in done.stdout + done.stderr


def test_check_as_json_says_that_something_is_wrong(checked: Pipeline) -> None:
    done = checked.command("check", "--json", CLICKHOUSE_TABLE="nope")
    assert done.returncode == 1
    assert json.loads(done.stdout.strip().splitlines()[-1])["ok"] is False


def test_check_is_content_with_what_is_right(checked: Pipeline) -> None:
    done = checked.command("check")
    assert done.returncode == 0, done.stdout
    assert "FAIL" not in done.stdout


@pytest.fixture(scope="module")
def checked(stack: StackStatus, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    flow = Pipeline(stack, fresh_name("checked"), tmp_path_factory.mktemp("checked"))
    client = flow.clickhouse()
    client.command(f"CREATE DATABASE {flow.database}")
    client.command(
        f"CREATE TABLE {flow.database}.logs (id UInt64, query_text String, created_at DateTime, "
        "user_id String) ENGINE = MergeTree ORDER BY id"
    )
    client.close()
    assert flow.command("init").returncode == 0
    again = flow.command("init", "--json")
    assert json.loads(again.stdout.strip().splitlines()[-1])["topics"] == []
    return flow
