"""Files over HTTP on the real parts: upload, process, results, and all that may be refused."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connectors.local.processes import free_port
from tests.integration.file_service import Service, csv_of, insert, on_topic, stored
from tests.integration.pipeline import Door
from tests.integration.replaying import texts
from tests.waiting import PATIENCE

ROWS = 400


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
            [curl, "-sS", *words], cwd=tmp_path, capture_output=True, timeout=PATIENCE, check=True
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
    flow.start("agents", "sink", LLM_LABELER_CONCURRENCY="4")
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
    port = free_port()
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
    unsure = service.upload("text,ts\nгде мой заказ,02/01/2026\n".encode())
    assert [one["id"] for one in unsure["questions"]] == ["dates"]
    assert service.status("POST", "/process", json={"file_id": unsure["file_id"]}) == 409
    assert service.status("POST", "/process", json={"file_id": unsure["file_id"], "accept": True}) == 200
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
