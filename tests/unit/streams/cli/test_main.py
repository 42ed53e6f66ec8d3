"""The command line as a user meets it: help with examples, errors in one line, completion, progress."""

from __future__ import annotations

import io
import json
import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import structlog
from rich.console import Console

from streams.cli.errors import guarded, hoisted, logged
from streams.cli.progress import working
from streams.cli.reference import cli_page, commands, examples_of
from streams.core.errors import ConfigurationError, GateError, UnavailableError
from streams.observability.watchdog import StalledError
from tests import fork_server
from tests.waiting import PATIENCE

ROOT = Path(__file__).resolve().parents[4]
COMMANDS = list(commands())
OURS = ("CLICKHOUSE_", "KAFKA_", "LLM_", "TOPIC_", "LABELSTREAM_", "LOG_")


def run(folder: Path, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return fork_server.run(words, {**kept, "PYTHONPATH": str(ROOT), **settings}, folder)


def test_every_command_and_group_is_found() -> None:
    names = {" ".join(words) for words, _ in COMMANDS}
    assert {"run", "status", "replay", "replay drop", "versions diff", "dead-letters retry"} <= names


@pytest.mark.parametrize(("words", "command"), COMMANDS, ids=[" ".join(words) for words, _ in COMMANDS])
def test_the_help_says_what_a_command_does_and_shows_it(words: tuple[str, ...], command: Any) -> None:
    assert command.help
    shown = examples_of(command)
    assert shown
    for line in shown:
        given = shlex.split(line.removeprefix("LOG_FORMAT=json ").removeprefix('eval "$(').removesuffix(')"'))
        assert given[: len(words) + 1] == ["labelstream", *words]
    for param in command.params:
        assert param.help, f"{words}: {param.name} is not explained"


def test_the_page_has_every_command_with_its_options() -> None:
    page = cli_page()
    for words, command in COMMANDS:
        assert f"\n## labelstream {' '.join(words)}\n" in page
        for param in command.params:
            assert max(param.opts, key=len) in page


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["init"], ["init"]),
        (["init", "--debug"], ["--debug", "init"]),
        (["--debug", "init"], ["--debug", "init"]),
        (["tap", "--", "--debug"], ["tap", "--", "--debug"]),
    ],
)
def test_debug_may_stand_anywhere(given: list[str], expected: list[str]) -> None:
    assert hoisted(given) == expected


def fail(error: Exception) -> Any:
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ConfigurationError("no such thing", fix="do that"), 1, ["no such thing", "do that"]),
        (UnavailableError("Kafka does not answer", setting="X"), 1, ["Kafka does not answer"]),
        (StalledError("stands still"), 75, ["stands still"]),
        (GateError("worse by 5 points", {"answer": "worse"}), 3, ["worse by 5 points"]),
        (ValueError("a\nbug"), 1, ["unexpected ValueError", "test_main.py", "a bug", "--debug"]),
    ],
)
def test_an_error_is_a_line_and_with_debug_a_traceback(
    error: Exception, code: int, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for debug in (False, True):
        stream = io.StringIO()
        monkeypatch.setattr("streams.cli.errors.console", Console(file=stream, width=200))
        assert guarded(fail(error), debug=debug) == code
        assert all(words in stream.getvalue() for words in said)
        assert ("Traceback" in stream.getvalue()) == debug


def test_a_role_s_last_word_is_a_line_of_its_log() -> None:
    with structlog.testing.capture_logs() as lines:
        assert logged(fail(ConfigurationError("no", setting="X_Y", fix="do")), "sink", debug=False) == 1
    (line,) = lines
    assert (line["event"], line["role"], line["setting"], line["fix"]) == ("role_failed", "sink", "X_Y", "do")


def test_a_command_s_error_is_short_for_the_real_program(tmp_path: Path) -> None:
    short = run(tmp_path, "init", TOPIC_PARTITIONS="many")
    assert short.returncode == 1
    assert "TOPIC_PARTITIONS" in short.stderr
    assert "Traceback" not in short.stderr
    whole = run(tmp_path, "init", "--debug", TOPIC_PARTITIONS="many")
    assert "Traceback" in whole.stderr


def test_a_role_s_error_is_json_where_its_log_is(tmp_path: Path) -> None:
    done = run(tmp_path, "run", "agents", LOG_FORMAT="json", TAXONOMY_PATH="nowhere.yaml")
    assert done.returncode == 1
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert "nowhere.yaml" in lines[-1]["error"]
    assert lines[-1]["level"] == "error"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_s_completion_script_is_printed(tmp_path: Path, shell: str) -> None:
    done = run(tmp_path, "completion", shell)
    assert done.returncode == 0, done.stderr
    assert "_LABELSTREAM_COMPLETE" in done.stdout
    assert "labelstream" in done.stdout


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("labelstream dead", {"dead-letters"}),
        ("labelstream replay d", {"drop"}),
        ("labelstream run f", {"fetcher"}),
        ("labelstream status --w", {"--watch"}),
    ],
)
def test_what_the_script_asks_is_answered(tmp_path: Path, line: str, expected: set[str]) -> None:
    words = line.split(" ")
    done = run(
        tmp_path,
        COMP_WORDS=line,
        COMP_CWORD=str(len(words) - 1),
        _LABELSTREAM_COMPLETE="complete_bash",
    )
    assert expected <= set(done.stdout.split())


def test_status_says_what_is_down_and_shows_the_rest(tmp_path: Path) -> None:
    done = run(tmp_path, "status")
    assert done.returncode == 0, done.stderr
    assert "kafka is down" in done.stdout
    assert "clickhouse is down" in done.stdout
    assert "no role runs" in done.stdout


def test_json_on_stdout_is_whole_while_a_terminal_shows_progress(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    done = subprocess.run(
        [sys.executable, "-m", "streams.cli", "status", "--json"],
        env={**kept, "PYTHONPATH": str(ROOT), "TERM": "xterm"},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=theirs,
        timeout=PATIENCE,
        check=False,
    )
    os.close(theirs)
    shown = b""
    try:
        while some := os.read(ours, 65536):
            shown += some
    except OSError:
        pass  # Linux says so at the end of a terminal
    os.close(ours)
    assert set(json.loads(done.stdout)) >= {"parts", "topics", "roles"}
    assert b"looking" in shown


def test_progress_is_shown_in_a_terminal_and_nowhere_else() -> None:
    terminal, file = io.StringIO(), io.StringIO()
    for stream, is_terminal in ((terminal, True), (file, False)):
        console = Console(file=stream, force_terminal=is_terminal, width=100)
        with working("making topics", console) as say:
            say("making tables")
    assert "making tables" in terminal.getvalue()
    assert file.getvalue() == ""


def test_a_command_and_a_role_load_only_what_they_need() -> None:
    """A command that is completed, and a poller that is started anew, are waited for."""
    script = (
        "import sys, streams.cli.main\n"
        "assert not {'aiokafka', 'faust', 'pyarrow', 'numpy', 'fastapi'} & set(sys.modules)\n"
        "import streams.roles.poller\n"
        "assert not {'faust', 'pyarrow', 'fastapi'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=PATIENCE)
