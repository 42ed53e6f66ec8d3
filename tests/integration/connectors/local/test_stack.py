"""The local stack as a whole: up, down, kept data and ports, parts that died, several at once."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import clickhouse_connect
import psutil
import pytest

from connectors.local import processes
from connectors.local.processes import Child
from connectors.local.stack import LocalStack, PartStatus, PortTakenError, StackError, StackStatus
from tests.waiting import PATIENCE, until

_REPOSITORY = Path(__file__).resolve().parents[4]


def kill(part: PartStatus) -> None:
    assert part.pid
    child = Child.of(part.pid)
    child.signal(signal.SIGKILL)
    until(lambda: not child.alive)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[LocalStack]:
    stack = LocalStack(tmp_path)
    yield stack
    stack.down()


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """For the tests that leave it as it is."""
    stack = LocalStack(tmp_path_factory.mktemp("steady"))
    yield stack
    stack.down()


def up(stack: LocalStack, **arguments: int) -> StackStatus:
    """The two parts that start quickly; Kafka has tests of its own."""
    return stack.up(kafka=False, taxonomy=_REPOSITORY / "taxonomy.yaml", **arguments)  # type: ignore[arg-type]


def test_all_parts_answer_and_the_status_says_where(steady: LocalStack) -> None:
    status = up(steady)
    assert [part.state for part in status.parts] == ["stopped", "running", "running"]
    assert status.llm.address == f"http://127.0.0.1:{status.llm.port}/v1"
    assert status.clickhouse.address == f"127.0.0.1:{status.clickhouse.port}"
    with closing(http.client.HTTPConnection("127.0.0.1", status.llm.port, timeout=PATIENCE)) as connection:
        connection.request("GET", "/v1/models")
        assert json.loads(connection.getresponse().read())["data"]
    for part in (status.clickhouse, status.llm):
        assert psutil.pid_exists(part.pid or 0)
        assert part.log
        assert part.log.is_file()
    assert steady.status() == status


def test_the_status_is_plain_data_for_json(steady: LocalStack) -> None:
    told = json.loads(json.dumps(up(steady).as_dict()))
    assert Path(told["data"]).name.startswith("steady")
    assert set(told) == {"data", "kafka", "clickhouse", "llm"}
    fields = {"state", "address", "host", "port", "pid", "log"}
    assert all(set(told[part]) == fields for part in ("kafka", "clickhouse", "llm"))
    assert told["kafka"] == dict.fromkeys(fields) | {"state": "stopped"}
    elsewhere = steady.status().with_external("kafka", "broker:9092").as_dict()["kafka"]
    assert (elsewhere["state"], elsewhere["address"], elsewhere["pid"]) == ("external", "broker:9092", None)


def test_up_again_changes_nothing(steady: LocalStack) -> None:
    first = up(steady)
    lines: list[str] = []
    assert steady.up(kafka=False, taxonomy=_REPOSITORY / "taxonomy.yaml", on_progress=lines.append) == first
    assert not [line for line in lines if line.startswith("starting")]


def test_the_stand_in_is_started_anew_with_other_arguments(stack: LocalStack) -> None:
    first = stack.up(kafka=False, clickhouse=False, taxonomy=_REPOSITORY / "taxonomy.yaml")
    arguments = ["--model", "another"]
    second = stack.up(
        kafka=False, clickhouse=False, taxonomy=_REPOSITORY / "taxonomy.yaml", llm_args=arguments
    )
    assert (second.llm.port, second.llm.pid != first.llm.pid) == (first.llm.port, True)
    with closing(http.client.HTTPConnection("127.0.0.1", second.llm.port, timeout=PATIENCE)) as connection:
        connection.request("GET", "/v1/models")
        assert b"another" in connection.getresponse().read()


def test_down_stops_everything_and_up_finds_data_and_ports_again(stack: LocalStack) -> None:
    first = up(stack)
    client = clickhouse_connect.get_client(host="127.0.0.1", port=first.clickhouse.port or 0)
    client.command("CREATE TABLE kept (id UInt8) ENGINE = MergeTree ORDER BY id")
    client.insert("kept", [[1]], column_names=["id"])
    client.close()
    stack.down()
    assert [part.state for part in stack.status().parts] == ["stopped"] * 3
    assert not any(psutil.pid_exists(part.pid or 0) for part in (first.clickhouse, first.llm))
    assert processes.port_is_free(first.clickhouse.port or 0)
    stack.down()  # nothing to do is no error
    second = up(stack)
    assert (second.clickhouse.port, second.llm.port) == (first.clickhouse.port, first.llm.port)
    client = clickhouse_connect.get_client(host="127.0.0.1", port=second.clickhouse.port or 0)
    assert client.query("SELECT id FROM kept").result_rows == [(1,)]
    client.close()


def test_given_ports_are_used_and_kept(stack: LocalStack) -> None:
    clickhouse, llm = processes.free_port(), processes.free_port()
    status = up(stack, clickhouse_port=clickhouse, llm_port=llm)
    assert (status.clickhouse.port, status.llm.port) == (clickhouse, llm)
    assert up(stack, clickhouse_port=clickhouse) == status
    with pytest.raises(PortTakenError, match=f"runs already, on port {clickhouse}"):
        up(stack, clickhouse_port=processes.free_port())
    stack.down()
    assert up(stack).clickhouse.port == clickhouse


def test_a_port_that_is_taken_is_refused_and_nothing_is_left_running(stack: LocalStack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(PortTakenError, match=f"port {port}, asked for clickhouse, is in use"):
            stack.up(kafka=False, llm=False, clickhouse_port=port)
    assert stack.status().clickhouse.state == "stopped"


def test_a_part_moves_when_its_old_port_is_in_use(stack: LocalStack) -> None:
    first = stack.up(kafka=False, llm=False)
    stack.down()
    lines: list[str] = []
    with socket.create_server(("127.0.0.1", first.clickhouse.port or 0)):
        second = stack.up(kafka=False, llm=False, on_progress=lines.append)
    assert second.clickhouse.port != first.clickhouse.port
    assert any(str(first.clickhouse.port) in line and "in use" in line for line in lines)


def test_a_part_that_was_killed_comes_back_and_the_others_stay(stack: LocalStack) -> None:
    first = up(stack)
    kill(first.clickhouse)
    assert stack.status().clickhouse.state == "stopped"
    second = up(stack)
    assert second.clickhouse.port == first.clickhouse.port
    assert second.clickhouse.pid != first.clickhouse.pid
    assert second.llm == first.llm


def test_a_part_that_does_not_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "clickhouse").write_text("not a folder")
    stack = LocalStack(tmp_path)
    with pytest.raises(StackError, match="clickhouse stopped right after its start") as caught:
        stack.up(kafka=False, llm=False)
    assert caught.value.setting == "CLICKHOUSE_HOST"
    assert "FileExistsError" in str(caught.value)  # the end of its log
    assert stack.status().clickhouse.state == "stopped"


def test_two_ups_at_once_start_each_part_once(stack: LocalStack, tmp_path: Path) -> None:
    second: list[StackStatus] = []
    other_starts = threading.Event()
    other = threading.Thread(
        target=lambda: second.append(
            LocalStack(tmp_path).up(kafka=False, llm=False, on_progress=lambda _line: other_starts.set())
        )
    )

    def come_between(line: str) -> None:
        if line.startswith("starting"):
            other.start()
            assert not other_starts.wait(1.0)  # it waits for this one

    first = stack.up(kafka=False, llm=False, on_progress=come_between)
    other.join(PATIENCE)
    assert second == [first]


def test_the_parts_outlive_the_command_that_started_them(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from connectors.local.stack import LocalStack\n"
        "print(LocalStack(Path(sys.argv[1])).up(kafka=False, llm=False).clickhouse.pid)"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path)],
            cwd=_REPOSITORY,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
        assert LocalStack(tmp_path).status().clickhouse.pid == int(done.stdout)
    finally:
        LocalStack(tmp_path).down()
    assert LocalStack(tmp_path).status().clickhouse.state == "stopped"


def test_status_does_not_wait_for_a_start_under_way(stack: LocalStack) -> None:
    seen: list[str] = []

    def look(line: str) -> None:
        if line.startswith("starting clickhouse"):
            thread = threading.Thread(target=lambda: seen.append(stack.status().clickhouse.state))
            thread.start()
            thread.join(PATIENCE)

    stack.up(kafka=False, llm=False, on_progress=look)
    assert seen == ["stopped"]
