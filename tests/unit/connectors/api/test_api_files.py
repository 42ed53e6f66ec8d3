"""The routes for files and jobs: what they hand on, and which status a refusal has."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from connectors.api.app import Options, create_app
from connectors.api.services import Services
from connectors.files.uploads import Uploads
from streams.core.errors import ConfigurationError, QuestionsError, RefusedError, UnavailableError
from streams.core.settings import Settings
from streams.ports.files import CONFLICT, NO_FILE_OF_ROWS, NO_ROWS, NOT_FOUND, AskedFile, FileService
from tests.unit.connectors.api.fakes import Fakes

JOB: dict[str, Any] = {
    "job_id": "upload-1",
    "source": "file",
    "state": "done",
    "progress": 1.0,
    "rows": 1,
    "rows_remaining": 0,
    "rate": None,
    "seconds_remaining": 0.0,
    "labeled": 1,
    "published": 1,
    "settled": 0,
    "skipped": 0,
    "unreadable": 0,
    "version": None,
    "begun_at": "2026-01-31T10:00:00Z",
    "updated_at": "2026-01-31T10:00:00Z",
}
ID = "0" * 32


class Work:
    """Files on disk as they are; jobs as the test says."""

    def __init__(self, folder: Path) -> None:
        self.stored = Uploads(Settings(labelstream_data=folder))
        self.asked: list[Any] = []
        self.error: Exception | None = None

    async def upload(self, pieces: AsyncIterator[bytes], name: str) -> dict[str, Any]:
        upload, new = await self.stored.receive(pieces, name)
        return {**upload.as_dict(), "known": not new}

    async def uploads(self) -> list[dict[str, Any]]:
        return [one.as_dict() for one in await self.stored.every()]

    async def upload_shown(self, file_id: str, read_as: Any) -> dict[str, Any]:
        self.asked.append(read_as)
        return (await self.stored.shown(file_id)).as_dict()

    async def upload_broken(self, file_id: str) -> AsyncIterator[dict[str, Any]]:
        for one in (await self.stored.shown(file_id)).listed:
            yield one

    async def process(self, asked: AskedFile) -> dict[str, Any]:
        return self._told(asked)

    async def fetch(self, days: int, limit: int | None, process: bool) -> dict[str, Any]:
        self._told((days, limit, process))
        return {"status": "success", "rows_fetched": 2, "file_path": "a.csv", "job_id": "fetch-1"}

    async def jobs(self) -> list[dict[str, Any]]:
        return [self._told("jobs")]

    async def job(self, job: str) -> dict[str, Any]:
        return self._told(job)

    async def cancel(self, job: str) -> dict[str, Any]:
        return self._told(job)

    async def resume(self, job: str) -> dict[str, Any]:
        return self._told(job)

    async def result(self, job: str, format_: Any, **more: Any) -> AsyncIterator[bytes]:
        self._told((job, format_, more))
        yield b"row\n"
        yield b"1\n"

    async def broken(self, job: str) -> AsyncIterator[dict[str, Any]]:
        self._told(job)
        yield {"row": 1}

    def _told(self, asked: Any) -> dict[str, Any]:
        self.asked.append(asked)
        if self.error is not None:
            raise self.error
        return JOB


def client_of(work: FileService | None) -> httpx.AsyncClient:
    fakes = Fakes()
    services = Services(health=fakes.health, lookups=fakes, classifier=fakes, feed=fakes, files=work)
    app = create_app(services, Options(larger={"/upload": 50_000}))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=("127.0.0.1", 1))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost:8080")


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work(tmp_path)


async def test_a_file_comes_in_a_form_or_as_it_is(work: Work, tmp_path: Path) -> None:
    content = "text;ts\nгде заказ;2026-01-01\nнет;\n".encode("cp1251")
    async with client_of(work) as client:
        answer = await client.post("/upload", files={"file": ("..\\..\\a/ж.csv", content)})
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert (found["name"], found["encoding"], found["delimiter"]) == ("ж.csv", "cp1251", ";")
        assert (found["rows"], found["rows_broken"], found["known"]) == (2, 1, False)
        assert found["broken"][0]["line"] == 3
        assert found["first_rows"][0] == {"text": "где заказ", "ts": "2026-01-01"}
        again = (await client.post("/upload", content=content)).json()
        assert (again["file_id"], again["known"], again["name"]) == (found["file_id"], True, "ж.csv")
        assert [one["file_id"] for one in (await client.get("/uploads")).json()["uploads"]] == [
            found["file_id"]
        ]
        listed = await client.get(f"/uploads/{found['file_id']}/broken")
        assert [json.loads(line)["row"] for line in listed.text.splitlines()] == [2]
        await client.get(f"/uploads/{found['file_id']}?encoding=koi8-r&delimiter=%3B&header=false")
        assert work.asked == [{"encoding": "koi8-r", "delimiter": ";", "header": False}]
    assert sorted(path.suffix for path in (tmp_path / "uploads").iterdir()) == [".data", ".json"]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 422),
        (b"text\n", 422),
        (b"PK\x03\x04", 415),
        (b'["a"]', 415),
        (b"PAR1", 422),
        (b'text,b\n"x,1\n"y,2\n', 422),
        (b"x" * 60_000, 413),
    ],
)
async def test_what_is_no_file_of_rows(work: Work, tmp_path: Path, content: bytes, status: int) -> None:
    async with client_of(work) as client:
        for answer in (
            await client.post("/upload", content=content),
            await client.post("/upload", files={"file": ("a", content)}),
        ):
            assert answer.status_code == status, answer.text
            assert answer.headers["content-type"] == "application/problem+json"
    assert not list((tmp_path / "uploads").glob("*")) + list((tmp_path / "uploads").glob(".*"))


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RefusedError("no such", reason=NOT_FOUND), 404),
        (RefusedError("no rows", reason=NO_ROWS), 404),
        (RefusedError("dropped", reason=CONFLICT), 409),
        (RefusedError("a workbook", reason=NO_FILE_OF_ROWS), 415),
        (RefusedError("which column?", reason="mapping"), 422),
        (UnavailableError("away", setting="CLICKHOUSE_HOST"), 503),
        (ConfigurationError("not set", setting="CLICKHOUSE_HOST"), 503),
    ],
)
async def test_each_refusal_has_its_status(work: Work, error: Exception, status: int) -> None:
    work.error = error
    async with client_of(work) as client:
        for method, path, body in (
            ("POST", "/process", {"file_id": ID}),
            ("POST", "/fetch-from-clickhouse", None),
            ("GET", "/jobs", None),
            ("GET", "/jobs/a", None),
            ("DELETE", "/jobs/a", None),
            ("POST", "/jobs/a/resume", None),
            ("GET", "/jobs/a/result", None),
            ("GET", "/jobs/a/broken", None),
        ):
            answer = await client.request(method, path, json=body)
            assert answer.status_code == status, path
            assert answer.headers["content-type"] == "application/problem+json"
            if isinstance(error, RefusedError):
                assert answer.json()["detail"] == str(error)


async def test_open_questions_are_a_conflict_that_lists_them(work: Work) -> None:
    question = {"id": "dates", "about": "In which order?", "choices": ["a", "b"], "guess": "a"}
    work.error = QuestionsError("In which order?", [question])
    async with client_of(work) as client:
        answer = await client.post("/process", json={"file_id": ID})
        assert (answer.status_code, answer.json()["code"]) == (409, "open-questions")
        assert answer.json()["questions"] == [question]
        work.error = None
        await client.post("/process", json={"file_id": ID, "answers": {"dates": "b"}, "accept": True})
        assert work.asked[-1] == AskedFile(file_id=ID, answers={"dates": "b"}, accept=True)


async def test_refusals_and_broken_records_are_told_in_the_language_of_the_client(work: Work) -> None:
    work.error = QuestionsError({"en": "In which order?", "ru": "В каком порядке?"}, [])
    russian = {"accept-language": "ru-RU,ru;q=0.9"}
    async with client_of(work) as client:
        content = b"text;ts\na b c;2026-01-01\na;b;c\n"
        upload = (await client.post("/upload", content=content, headers=russian)).json()
        assert upload["broken"][0]["detail"] == "полей 3, а должно быть 2"
        path = f"/uploads/{upload['file_id']}/broken"
        assert "полей 3" in (await client.get(path, headers=russian)).text
        assert "3 fields" in (await client.get(path)).text
        refused = await client.post("/upload", content=b"<html>", headers=russian)
        assert refused.json()["detail"] == "это страница или файл XML"
        asked = await client.post("/process", json={"file_id": ID}, headers=russian)
        assert asked.json()["detail"] == "В каком порядке?"


async def test_what_is_asked_is_handed_on(work: Work) -> None:
    async with client_of(work) as client:
        body = json.dumps({"file_id": ID, "mapping": {"text": "q", "ts": None}, "version": "v2"})
        for kind in ("application/x-www-form-urlencoded", "application/json"):
            answer = await client.post("/process", content=body, headers={"content-type": kind})
            assert answer.status_code == 200, answer.text
        assert work.asked == [AskedFile(file_id=ID, mapping={"text": "q", "ts": None}, version="v2")] * 2
        work.asked.clear()
        await client.post("/fetch-from-clickhouse?days=1&limit=5&process=false")
        await client.post("/fetch-from-clickhouse")
        answer = await client.get("/jobs/a/result?format=parquet&variants=true&escape_formulas=true")
        assert work.asked == [
            (1, 5, False),
            (7, None, True),
            ("a", "parquet", {"variants": True, "escape_formulas": True}),
        ]
        assert answer.headers["content-disposition"] == 'attachment; filename="a.parquet"'
        for path in ("/fetch-from-clickhouse?days=-1", "/fetch-from-clickhouse?limit=0"):
            assert (await client.post(path)).status_code == 422
        for wrong in (b"{...}", b"[]", b'{"file_id": "x"}', b"", b"file_id=1"):
            assert (await client.post("/process", content=wrong)).status_code == 422, wrong


async def test_without_its_port_the_service_says_so() -> None:
    async with client_of(None) as client:
        assert (await client.get("/jobs")).status_code == 503
