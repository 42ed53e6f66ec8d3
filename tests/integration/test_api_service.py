"""The API on the real parts: rows, labels, streams across breaks, labels at once, keys, and outages."""

from __future__ import annotations

import json
import random
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from connectors.local import processes
from connectors.local.stack import StackStatus
from tests.integration.pipeline import ROOT, Pipeline
from tests.integration.test_observability import create
from tests.waiting import PATIENCE, Watch, until

READ, WRITE = "key-that-reads", "key-that-writes"
KEYS = f"reader:read:{READ},writer:write:{WRITE}"
TEXTS = ("не приходит код в смс", "где мой заказ", "верните деньги за билет", "не работает приложение")
ROWS = 60


class Running:
    """A pipeline that has stored ROWS rows, and its API."""

    def __init__(self, flow: Pipeline) -> None:
        self.flow = flow
        self.base = f"http://127.0.0.1:{flow.environment['API_PORT']}"
        self.inserted = 0
        self.client = httpx.Client(base_url=self.base, timeout=PATIENCE)

    def insert(self, count: int) -> None:
        first, self.inserted = self.inserted, self.inserted + count
        client = self.flow.clickhouse()
        values = [[n, f"{TEXTS[n % 4]} {n}", datetime.now(UTC), None] for n in range(first, self.inserted)]
        names = ["id", "query_text", "created_at", "user_id"]
        client.insert("logs", values, column_names=names, database=self.flow.database)
        client.close()

    def get(self, path: str, key: str = READ, **arguments: Any) -> httpx.Response:
        return httpx.get(self.base + path, headers={"X-API-Key": key}, timeout=PATIENCE, **arguments)

    def up(self, base: str | None = None) -> bool:
        try:
            return httpx.get(f"{base or self.base}/readyz", timeout=PATIENCE).status_code == 200
        except httpx.TransportError:
            return False

    def stream(self, last: str | None, count: int, **query: Any) -> tuple[list[dict[str, Any]], str]:
        """So many messages of the stream, and the id of the last; then the line is cut."""
        headers = {"Authorization": f"Bearer {READ}"} | ({"Last-Event-ID": last} if last else {})
        found: list[dict[str, Any]] = []
        at = last or ""
        with httpx.stream(
            "GET", f"{self.base}/stream/labeled", params=query, headers=headers, timeout=PATIENCE
        ) as answer:
            assert answer.status_code == 200
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                if name == "id":
                    at = value
                elif name == "data":
                    found.append(json.loads(value))
                if count == len(found) and name != "id" and (found or name == ""):
                    break
        return found, at


@pytest.fixture(scope="module")
def running(stack: StackStatus, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    flow = Pipeline(
        stack,
        "api_service",
        tmp_path_factory.mktemp("api"),
        API_KEYS=KEYS,
        API_PORT=str(processes.free_port()),
        API_REQUESTS_PER_SECOND="0",
        API_STREAM_SECONDS="1.5",
        POLL_INTERVAL_SECONDS="0.2",
    )
    create(flow)
    assert flow.command("init").returncode == 0
    found = Running(flow)
    found.insert(ROWS)
    try:
        flow.start("poller", "agents", "sink", "api")
        flow.wait(lambda: flow.count("logs_augmented") >= ROWS, "every row is stored")
        flow.wait(found.up, "the API answers")
        yield found
    finally:
        found.client.close()
        flow.stop()


def test_a_row_and_its_labels_are_found(running: Running) -> None:
    (row_id, text, label, version) = running.flow.rows(
        "SELECT row_id, text, label, label_version FROM api_service.logs_labeled WHERE row_id = '7'"
    )[0]
    found = running.get(f"/rows/{row_id}").json()
    assert (found["row_id"], found["text"]) == (row_id, text)
    assert [(one["label"], one["label_version"], one["current"]) for one in found["labels"]] == [
        (label, version, True)
    ]
    assert len(found["variants"]) == 1
    pages = [running.get("/labels", params={"label": label, "limit": 4}).json()]
    while pages[-1]["next"]:
        pages.append(
            running.get("/labels", params={"label": label, "limit": 4, "cursor": pages[-1]["next"]}).json()
        )
    ids = [one["row_id"] for page in pages for one in page["labels"]]
    stored = running.flow.rows(
        f"SELECT row_id FROM api_service.logs_labeled_current WHERE label = '{label}' "
        "ORDER BY created_at DESC, row_id DESC"
    )
    assert ids == [one[0] for one in stored]
    assert running.get("/rows/nobody").status_code == 404
    assert running.get("/metrics").text.startswith("# HELP")


def test_texts_are_labelled_as_the_stream_labels_them(running: Running) -> None:
    stored = dict(running.flow.rows("SELECT text, label FROM api_service.logs_labeled LIMIT 100"))
    texts = list(stored)[:50]
    answer = httpx.post(
        f"{running.base}/classify",
        json={"texts": [f"  {text}\u200b\n" for text in texts] + ["a", " \u0000  "]},
        headers={"X-API-Key": READ},
        timeout=PATIENCE,
    )
    *labels, short, empty = answer.json()["results"]
    assert [(one["text"], one["label"]) for one in labels] == [(text, stored[text]) for text in texts]
    assert (short["skipped"], empty["skipped"]) == ("too-short", "empty")
    versions = running.flow.rows("SELECT DISTINCT label_version FROM api_service.logs_labeled")
    assert {(one["label_version"],) for one in labels} == set(versions)


def test_a_stream_that_breaks_again_and_again_loses_nothing(running: Running) -> None:
    """While rows arrive, the line is cut after a few messages, and the server ends it too, after 1.5 s."""
    before = running.inserted
    _, last = running.stream(None, 0)
    more = 120

    def arrive() -> None:
        for _ in range(6):
            running.insert(more // 6)
            time.sleep(0.3)  # so that they come while the line is cut, and while it is not

    arriving = threading.Thread(target=arrive)
    arriving.start()
    seen: list[str] = []
    watch = Watch(f"all of {more} messages")
    while len(seen) < more:
        labels, last = running.stream(last, 7)
        seen += [one["row_id"] for one in labels]
        watch.look(len(seen))
    arriving.join()
    assert sorted(map(int, seen)) == list(range(before, before + more))
    everything, _ = running.stream(None, 10**6, start="beginning")
    assert len(everything) == running.inserted
    few, _ = running.stream(None, 10**6, start="beginning", label=everything[0]["label"], min_confidence=0)
    # Partitions have no order among each other.
    assert sorted(one["row_id"] for one in few) == sorted(
        one["row_id"] for one in everything if one["label"] == everything[0]["label"]
    )


def test_the_first_request_is_answered(running: Running) -> None:
    """As soon as the port takes connections, before the jobs have been read."""
    port = processes.free_port()
    (api,) = running.flow.start("api", API_PORT=str(port))
    try:
        transport = httpx.HTTPTransport(retries=0)
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", transport=transport, timeout=PATIENCE
        ) as first:

            def answer() -> httpx.Response | None:
                try:
                    return first.get("/jobs", headers={"X-API-Key": READ})
                except httpx.ConnectError:
                    return None

            found = until(answer, running.flow.explain, pause=0.001)
        assert found.status_code == 200, found.text
    finally:
        api.terminate()
        api.wait(PATIENCE)


CLICKHOUSE, MODEL, KAFKA = "CLICKHOUSE_HOST", "LLM_LABELER_API_BASE", "KAFKA_BOOTSTRAP_SERVERS"


@pytest.mark.parametrize(
    "away",
    [
        {"CLICKHOUSE_PORT": "1"},
        {KAFKA: "127.0.0.1:1", MODEL: "http://127.0.0.1:1/v1"},
    ],
)
def test_what_is_away_makes_only_its_own_requests_fail(running: Running, away: dict[str, str]) -> None:
    port = processes.free_port()
    base = f"http://127.0.0.1:{port}"
    (api,) = running.flow.start("api", **away, API_PORT=str(port))
    try:
        until(lambda: running.up(base), running.flow.explain)
        for method, path, needs in (
            ("GET", "/labels", CLICKHOUSE),
            ("GET", "/rows/1", CLICKHOUSE),
            ("POST", "/classify", MODEL),
            ("GET", "/stream/labeled", KAFKA),
        ):
            body = b'{"text": "where is my order"}' if method == "POST" else None
            headers = {"X-API-Key": READ}
            answer = httpx.request(method, base + path, headers=headers, content=body, timeout=PATIENCE)
            if {needs, needs.replace("_HOST", "_PORT")} & set(away):
                assert answer.status_code == 503, answer.text
                assert int(answer.headers["retry-after"]) > 0
                assert needs in answer.json()["detail"]
                assert "127.0.0.1" not in answer.text
            else:
                assert answer.status_code == 200, answer.text
    finally:
        api.terminate()
        api.wait(PATIENCE)


def test_the_whole_openapi_document_holds(running: Running, tmp_path: Path) -> None:
    """No 5xx, no answer that the document does not tell, no key left out, on the real parts."""
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{running.base}/openapi.json"),
        *("--header", f"X-API-Key: {WRITE}"),
        # An uploaded file, an id or a column may be of the right form and not be there or not fit.
        *("--exclude-checks", "positive_data_acceptance,use_after_free,ensure_resource_availability"),
        *("--phases", "coverage,fuzzing", "--max-examples", "2", "--generation-deterministic"),
        *("--continue-on-failure", "--no-color", "--warnings", "off", "--suppress-health-check", "all"),
        *("--request-timeout", str(PATIENCE)),
    ]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=10 * PATIENCE, check=False
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "request_broke" not in running.flow.log("api")


def test_nobody_gets_in_without_a_key_and_nobody_writes_with_a_reader_s(running: Running) -> None:
    document = running.get("/openapi.json").json()
    operations = [(path, method) for path, found in document["paths"].items() for method in found]
    assert len(operations) > 10
    for path, method in operations:
        url = running.base + path.replace("{", "").replace("}", "")
        status = httpx.request(method, url, timeout=PATIENCE).status_code
        assert status == (200 if path in ("/healthz", "/readyz") else 401), (method, path)
        if method != "get" and path != "/classify":
            headers = {"X-API-Key": READ}
            assert httpx.request(method, url, headers=headers, timeout=PATIENCE).status_code == 403
    log = running.flow.log("api")
    assert READ not in log
    assert WRITE not in log


def test_the_api_ends_at_once_though_streams_are_open(running: Running) -> None:
    port = processes.free_port()
    base = f"http://127.0.0.1:{port}"
    (api,) = running.flow.start("api", API_PORT=str(port), API_STREAM_SECONDS="600")
    until(lambda: running.up(base), running.flow.explain)
    headers = {"X-API-Key": READ}
    with httpx.stream("GET", f"{base}/stream/labeled", headers=headers, timeout=PATIENCE) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "retry: 2000"
        api.terminate()
        assert api.wait(PATIENCE) == 0
        assert all("data" not in line for line in lines)  # it ended as it should: no error is raised


CURL = shutil.which("curl")
EXAMPLES = [
    line
    for block in re.findall(
        r"^```sh\n(.*?)^```", (ROOT / "docs" / "guide" / "api.md").read_text("utf-8"), re.M | re.S
    )
    for line in block.splitlines()
    if line.startswith("curl ")
]


@pytest.mark.skipif(CURL is None, reason="there is no curl here")
@pytest.mark.parametrize("line", EXAMPLES)
def test_the_commands_of_the_manual_work_as_they_stand(running: Running, line: str) -> None:
    last = re.findall(r"^id: (\S+)", running.get("/stream/labeled", params={"seconds": 0.2}).text, re.M)
    words = shlex.split(line.replace("$API_KEY", READ).replace("$LAST_EVENT_ID", last[0]))
    if READ not in line.replace("$API_KEY", READ):
        words[1:1] = ["--header", f"X-API-Key: {READ}"]
    words = [word.replace("http://localhost:8080", running.base) for word in words]
    done = subprocess.run(
        [*words, "--silent", "--show-error", "--write-out", "\n%{http_code}"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    body, _, status = done.stdout.rpartition("\n")
    assert status == "200", body
    assert body.startswith("retry: ") if "/stream/" in line else json.loads(body)


INJECTIONS = (
    "' OR 1=1; DROP TABLE logs_labeled; --",
    "1') UNION ALL SELECT password FROM system.users --",
    "../../../../etc/passwd",
    "x\r\nX-Injected: yes",
    "{{7*7}}${7*7}{row_id:String}",
    "<script>alert(1)</script>\u202e\u0000",
)


def test_nothing_that_is_sent_is_taken_for_a_command(running: Running) -> None:
    """In each parameter of each operation, and in each field of a body: two of them, others in each run."""
    chance = random.SystemRandom()
    document = running.get("/openapi.json").json()
    before = running.flow.rows("SELECT name FROM system.tables WHERE database = 'api_service' ORDER BY name")
    asked = 0
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            names = [(one["in"], one["name"]) for one in operation.get("parameters", ())]
            names += [("body", name) for name in ("text", "file_id", "version", "mapping")]
            if path == "/labels":  # what all have in common
                names += [("header", name) for name in ("Referer", "X-API-Key", "Content-Type", "Host")]
            for place, name, evil in (
                (*where, evil) for where in names for evil in chance.sample(INJECTIONS, 2)
            ):
                if place == "body" and method != "post":
                    continue
                asked += 1
                told = evil if place == "path" else "x"
                url = re.sub(r"\{\w+\}", urllib.parse.quote(told, safe=""), path)
                query = {"seconds": "0.05"} if path.startswith("/stream/") else {}
                headers: dict[str, str | bytes] = {"X-API-Key": WRITE}
                if place == "header":
                    headers[name] = evil.replace("\r\n", " ").replace("\u0000", "").encode("utf-8")
                query |= {name: evil} if place == "query" else {}
                body = json.dumps({name: evil}).encode() if place == "body" else None
                answer = running.client.request(method, url, params=query, headers=headers, content=body)
                assert answer.status_code < 500, (method, path, place, name, evil, answer.text)
                assert "x-injected" not in answer.headers
                assert "root:" not in answer.text
                assert "<script>" not in answer.text or "html" not in answer.headers["content-type"]
    assert asked > 100
    after = running.flow.rows("SELECT name FROM system.tables WHERE database = 'api_service' ORDER BY name")
    assert after == before
    assert running.flow.count("logs_labeled") >= ROWS
    assert "request_broke" not in running.flow.log("api")
