"""The three modes over HTTP on the real parts: upload and process, fetch, and the role fetcher."""

from __future__ import annotations

import csv
import io
import json
import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pipeline import Door, Pipeline
from test_replay import texts

V1 = {"LABEL_VERSION": "v1", "LLM_LABELER_CONCURRENCY": "64", "AUGMENT_VARIANTS": "0"}
ROWS = 400


class Service:
    """A pipeline with an API."""

    def __init__(self, flow: Pipeline, port: int) -> None:
        self.flow = flow
        self.base = f"http://127.0.0.1:{port}"
        self.client = httpx.Client(base_url=self.base, timeout=120)

    def start(self, **settings: str) -> subprocess.Popen[bytes]:
        (process,) = self.flow.start("api", **settings)
        self.flow.wait(lambda: self.status("GET", "/jobs") == 200, "the API knows its jobs")
        return process

    def status(self, method: str, path: str, **arguments: Any) -> int:
        try:
            return self.client.request(method, path, **arguments).status_code
        except httpx.TransportError:
            return 0

    def told(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        answer = self.client.request(method, path, **arguments)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def upload(self, content: bytes, name: str = "logs.csv") -> dict[str, Any]:
        return self.told("POST", "/upload", files={"file": (name, content)})

    def process(self, file_id: str, **more: Any) -> dict[str, Any]:
        return self.told("POST", "/process", json={"file_id": file_id, **more})

    def done(self, job: str, seconds: float = 120.0) -> dict[str, Any]:
        """The job, once it is."""
        self.flow.wait(
            lambda: self.told("GET", f"/jobs/{job}")["state"] == "done", f"job {job} is done", seconds
        )
        return self.told("GET", f"/jobs/{job}")

    def result(self, job: str) -> list[dict[str, Any]]:
        answer = self.client.get(f"/jobs/{job}/result", params={"format": "jsonl"})
        assert answer.status_code == 200, answer.text
        return [json.loads(line) for line in answer.text.splitlines()]


@pytest.fixture
def service(make: Callable[..., Pipeline]) -> Iterator[Service]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flow = make(API_PORT=str(port), **V1)
    client = flow.clickhouse()
    client.command(f"CREATE DATABASE {flow.database}")
    client.command(
        f"CREATE TABLE {flow.database}.logs (id UInt64, query_text String, created_at DateTime) "
        "ENGINE = MergeTree ORDER BY id"
    )
    client.close()
    assert flow.command("init").returncode == 0
    made = Service(flow, port)
    yield made
    made.client.close()


def insert(flow: Pipeline, first: int, count: int, at: datetime) -> None:
    client = flow.clickhouse()
    rows = [
        [first + n, text, at + timedelta(seconds=n % 60)] for n, text in enumerate(texts(count, f"{first}n"))
    ]
    client.insert("logs", rows, column_names=["id", "query_text", "created_at"], database=flow.database)
    client.close()


def csv_of(rows: list[list[str]], header: bool = True) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerows([["text", "domain", "ts", "user_id"], *rows] if header else rows)
    return out.getvalue().encode()


def stored(flow: Pipeline) -> Counter[str]:
    """How often each row is in the table."""
    return Counter(row for (row,) in flow.rows(f"SELECT row_id FROM {flow.database}.logs_labeled"))


async def on_topic(flow: Pipeline, name: str) -> Counter[str]:
    return Counter(message.key.decode() for message in await flow.topic(name))


async def test_the_requirements_curl_lines(service: Service, tmp_path: Path) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("there is no curl here")
    flow, base = service.flow, service.base
    flow.start("agents", "sink", "poller")
    service.start()
    rows = [[f"{text}, {n}", "", "2026-01-05 10:00:00", "u1"] for n, text in enumerate(texts(20, "c"))]
    (tmp_path / "logs.csv").write_bytes(csv_of(rows))

    def curled(*words: str) -> dict[str, Any]:
        ended = subprocess.run(
            [curl, "-sS", *words], cwd=tmp_path, capture_output=True, timeout=60, check=True
        )
        found: dict[str, Any] = json.loads(ended.stdout)
        return found

    file = curled("-X", "POST", f"{base}/upload", "-F", "file=@logs.csv")
    assert (file["rows"], file["mapping"]["text"], file["name"]) == (20, "text", "logs.csv")
    job = curled("-X", "POST", f"{base}/process", "-d", json.dumps({"file_id": file["file_id"]}))
    service.done(job["job_id"])
    insert(flow, 1, 30, datetime.now(UTC) - timedelta(days=1))
    flow.wait(lambda: len(stored(flow)) == 50, "the poller's rows are labelled")
    fetched = curled("-X", "POST", f"{base}/fetch-from-clickhouse?days=7&process=true")
    assert (fetched["status"], fetched["rows_fetched"]) == ("success", 30)
    exported = (tmp_path / fetched["file_path"]).read_text("utf-8")
    assert exported.splitlines()[0].replace('"', "") == "text,domain,ts,user_id"
    assert len(list(csv.reader(io.StringIO(exported)))) == 31
    service.done(fetched["job_id"])
    # The poller had labelled them all.
    assert set(stored(flow).values()) == {1}
    assert len(await on_topic(flow, "replay")) == 20


async def test_a_file_is_labelled_once_however_often_it_comes(service: Service) -> None:
    flow = service.flow
    flow.start("agents", "sink")
    service.start()
    rows = [[text, "sms", "2026-01-05 10:00:00", f"u{n}"] for n, text in enumerate(texts(200, "o"))]
    rows += [["да", "", "2026-01-05 10:00:00", "u"], ["а", "", "2026-01-05 10:00:00", "u"]]
    broken = b'"open,a,2026-01-05,u\nfew,fields\ntext,a,never,u\n'
    file = service.upload(csv_of(rows) + broken + csv_of(rows[:2], header=False))
    assert (file["rows"], file["rows_broken"], file["rows_skipped"]) == (207, 3, 1)
    assert [one["line"] for one in file["broken"]] == [204, 205, 206]
    again = service.upload(csv_of(rows) + broken + csv_of(rows[:2], header=False), "other.csv")
    assert (again["file_id"], again["known"]) == (file["file_id"], True)
    job = service.process(file["file_id"])
    assert service.process(again["file_id"])["job_id"] == job["job_id"]
    assert service.process(file["file_id"], mapping={"text": "text"})["job_id"] == job["job_id"]
    found = service.done(job["job_id"])
    assert (found["published"], found["unreadable"], found["skipped"]) == (203, 3, 1)
    # Without the user it is another job over the same rows, and none of them is left to do.
    other = service.process(file["file_id"], mapping={"user": None})
    assert other["job_id"] != job["job_id"]
    assert service.done(other["job_id"])["settled"] == 203
    assert service.process(file["file_id"])["state"] == "done"

    ids = {f"upload:{file['file_id']}:{n}" for n in range(1, 208)} - {
        f"upload:{file['file_id']}:{n}" for n in (202, 203, 204, 205)
    }
    assert stored(flow) == dict.fromkeys(ids, 1)
    assert await on_topic(flow, "labeled") == dict.fromkeys(ids, 1)
    result = service.result(job["job_id"])
    assert [row["row"] for row in result] == list(range(1, 208))
    assert Counter(row["status"] for row in result) == {"labeled": 203, "broken": 3, "skipped": 1}
    assert [row["line"] for row in result if row["status"] == "broken"] == [204, 205, 206]
    assert {(row["domain"], row["label_version"]) for row in result[:200]} == {("sms", "v1")}
    listed = service.client.get(f"/jobs/{job['job_id']}/broken").text.splitlines()
    assert [json.loads(line)["line"] for line in listed] == [204, 205, 206]
    for format_ in ("csv", "parquet"):
        answer = service.client.get(f"/jobs/{job['job_id']}/result", params={"format": format_})
        assert answer.status_code == 200
        assert len(answer.content) > 1000
    assert {one["job_id"] for one in service.told("GET", "/jobs")["jobs"]} == {
        job["job_id"],
        other["job_id"],
    }


async def test_killed_in_mid_job_the_api_goes_on_where_it_was(service: Service) -> None:
    flow = service.flow
    flow.start("agents", "sink")
    api = service.start()
    file = service.upload(csv_of([[text, "", "", "u"] for text in texts(ROWS, "k")]), "k.csv")
    assert "timestamp" not in file["mapping"], "there is not a time in that column"
    job = service.process(file["file_id"])["job_id"]
    flow.wait(lambda: len(stored(flow)) > 100, "some rows are labelled")
    api.kill()
    api.wait()
    assert len(stored(flow)) < ROWS
    service.start()
    service.done(job)
    every = {f"upload:{file['file_id']}:{n}" for n in range(1, ROWS + 1)}
    assert stored(flow) == dict.fromkeys(every, 1)
    assert await on_topic(flow, "replay") == dict.fromkeys(every, 1)
    assert await on_topic(flow, "labeled") == dict.fromkeys(every, 1)


async def test_two_apis_work_one_job_once_and_it_can_be_stopped(
    service: Service, request: pytest.FixtureRequest
) -> None:
    flow = service.flow
    flow.start("agents", "sink", LLM_LABELER_CONCURRENCY="2")
    first = service.start()
    file = service.upload(csv_of([[text, "", "2026-01-05", "u"] for text in texts(ROWS, "t")]))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    second = Service(flow, port)
    request.addfinalizer(second.client.close)
    second.start(API_PORT=str(port))
    jobs = {one.process(file["file_id"])["job_id"] for one in (service, second, service, second)}
    (job,) = jobs
    flow.wait(lambda: len(stored(flow)) > 20, "some rows are labelled")
    service.told("DELETE", f"/jobs/{job}")
    flow.wait(lambda: second.told("GET", f"/jobs/{job}")["state"] == "cancelled", "the other knows it")
    assert len(stored(flow)) < ROWS
    first.kill()
    first.wait()
    flow.start("agents")
    assert second.process(file["file_id"])["state"] != "cancelled"
    second.done(job)
    every = {f"upload:{file['file_id']}:{n}" for n in range(1, ROWS + 1)}
    assert stored(flow) == dict.fromkeys(every, 1)
    assert await on_topic(flow, "replay") == dict.fromkeys(every, 1)


async def test_fetches_without_a_poller_and_the_poller_that_comes_later(service: Service) -> None:
    flow = service.flow
    flow.start("agents", "sink")
    service.start()
    assert service.status("POST", "/fetch-from-clickhouse") == 404
    insert(flow, 1, 100, datetime.now(UTC) - timedelta(days=2))
    some = service.told("POST", "/fetch-from-clickhouse", params={"days": 7, "limit": 10})
    assert some["rows_fetched"] == 10
    assert service.done(some["job_id"])["published"] == 10
    only = service.told("POST", "/fetch-from-clickhouse", params={"process": False})
    assert (only["rows_fetched"], only["job_id"]) == (100, None)
    first = service.told("POST", "/fetch-from-clickhouse")
    second = service.told("POST", "/fetch-from-clickhouse")
    assert service.done(first["job_id"])["published"] == 90
    assert service.done(second["job_id"])["published"] == 0
    assert len(service.result(first["job_id"])) == 100

    # A poller that reads from the table's beginning leaves out what was fetched.
    flow.start("poller")
    insert(flow, 101, 20, datetime.now(UTC))
    flow.wait(lambda: len(stored(flow)) == 120, "the new rows are labelled")
    assert stored(flow) == dict.fromkeys(map(str, range(1, 121)), 1)
    assert await on_topic(flow, "rows") == dict.fromkeys(map(str, range(101, 121)), 1)
    third = service.told("POST", "/fetch-from-clickhouse")
    assert third["rows_fetched"] == 120
    assert service.done(third["job_id"])["published"] == 0


async def test_the_fetcher_catches_up_beside_the_poller(service: Service) -> None:
    flow = service.flow
    flow.start("agents", "sink", "poller", POLL_LOOKBACK_SECONDS="5")
    insert(flow, 1, 50, datetime.now(UTC) - timedelta(hours=1))
    flow.wait(lambda: len(stored(flow)) == 50, "the poller's rows are labelled")
    often = {"FETCH_INTERVAL_HOURS": "0.001", "POLL_LOOKBACK_SECONDS": "5"}
    active, standby = flow.start("fetcher", "fetcher", **often)
    flow.wait(lambda: len(exports(flow)) >= 2, "two fetches")
    for one in (active, standby):
        one.kill()
        one.wait()
    # Rows that come too late for the poller's window, while nobody fetches.
    insert(flow, 101, 30, datetime.now(UTC) - timedelta(minutes=90))
    seen = len(exports(flow))
    flow.start("fetcher", **often)
    flow.wait(lambda: len(stored(flow)) == 80, "late rows are labelled")
    flow.wait(lambda: len(exports(flow)) >= seen + 3, "more fetches")
    assert set(stored(flow).values()) == {1}
    assert await on_topic(flow, "replay") == dict.fromkeys(map(str, range(101, 131)), 1)
    assert set((await on_topic(flow, "rows")).values()) == {1}


def exports(flow: Pipeline) -> list[Path]:
    return list((flow.folder / "data" / "exports").glob("*.csv"))


async def test_error_codes(service: Service) -> None:
    flow = service.flow
    service.start(API_UPLOAD_BYTES="200000")
    assert service.status("POST", "/upload", files={"file": ("a", b"x" * 300_000)}) == 413
    assert service.status("POST", "/upload", content=iter([b"x" * 1000] * 300)) == 413
    for content, status in (
        (b"PK\x03\x04", 415),
        (b"[{}]", 415),
        (b"", 422),
        (b"PAR1", 422),
        (b"text\n", 422),
    ):
        assert service.status("POST", "/upload", files={"file": ("a", content)}) == status, content
    assert service.status("POST", "/upload", files={"other": ("a", b"text\nx y\n")}) == 422
    nobody = "0" * 32
    file = service.upload(b"text,ts\n\xd0\xb3\xd0\xb4\xd0\xb5,2026-01-01\n")["file_id"]
    for asked, status in (
        ({"file_id": nobody}, 404),
        ({"file_id": "../../etc"}, 422),
        ({"file_id": file, "mapping": {"text": "no such column"}}, 422),
        ({"file_id": file, "mapping": {"no such part": "text"}}, 422),
        ({"file_id": file, "mapping": {"text": None}}, 422),
        ({"file_id": file, "version": "nobody knows"}, 422),
        ({"file_id": file, "more": 1}, 422),
    ):
        assert service.status("POST", "/process", json=asked) == status, asked
    assert service.status("POST", "/process", content=b"{...}") == 422
    for method, path in (
        ("GET", "/jobs/nobody"),
        ("DELETE", "/jobs/nobody"),
        ("GET", "/jobs/nobody/result"),
        ("GET", "/jobs/nobody/broken"),
        ("GET", f"/uploads/{nobody}"),
        ("GET", f"/uploads/{nobody}/broken"),
    ):
        assert service.status(method, path) == 404, path
    assert service.status("GET", "/jobs/nobody/result?format=xlsx") == 422
    assert not list((flow.folder / "data" / "uploads").glob(".*")), "nothing stays of what was refused"


async def test_clickhouse_away_is_a_503(service: Service) -> None:
    flow = service.flow
    door = Door(f"127.0.0.1:{flow.clickhouse_port}")
    door.open()
    service.start(CLICKHOUSE_PORT=str(door.port))
    door.close()
    answer = service.client.post("/fetch-from-clickhouse")
    assert answer.status_code == 503
    assert answer.json()["status"] == 503
    assert "retry-after" in answer.headers
    flow.stop()
    # None that is configured, and none that runs here.
    (process,) = flow.start("api", CLICKHOUSE_HOST="")
    flow.wait(lambda: service.status("GET", "/healthz") == 200, "the API answers")
    assert service.status("POST", "/fetch-from-clickhouse") == 503
    assert process.poll() is None


async def test_live_rows_go_before_those_of_a_file(service: Service) -> None:
    flow = service.flow
    flow.start("agents", "sink", "poller", LLM_LABELER_CONCURRENCY="4")
    service.start()
    file = service.upload(csv_of([[text, "", "2026-01-05", "u"] for text in texts(1500, "p")]))
    job = service.process(file["file_id"])["job_id"]
    flow.wait(lambda: len(stored(flow)) > 50, "the file's rows are being labelled")
    insert(flow, 1, 40, datetime.now(UTC))
    live = f"SELECT count() FROM {flow.database}.logs_labeled WHERE NOT startsWith(row_id, 'upload:')"
    flow.wait(lambda: flow.rows(live)[0][0] == 40, "the live rows are labelled")
    assert service.told("GET", f"/jobs/{job}")["state"] != "done"
    service.told("DELETE", f"/jobs/{job}")
