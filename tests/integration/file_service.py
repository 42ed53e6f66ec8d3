"""A pipeline with an API, for the tests of files and fetches."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from connectors.local.processes import free_port
from tests.fork_server import Forked
from tests.integration.pipeline import Pipeline
from tests.integration.replaying import V1, texts
from tests.waiting import PATIENCE


class Service:
    """A pipeline with an API."""

    def __init__(self, flow: Pipeline, port: int) -> None:
        self.flow = flow
        self.base = f"http://127.0.0.1:{port}"
        self.client = httpx.Client(base_url=self.base, timeout=PATIENCE)

    def start(self, **settings: str) -> Forked:
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

    def done(self, job: str) -> dict[str, Any]:
        """The job, once it is."""
        self.flow.wait(lambda: self.told("GET", f"/jobs/{job}")["state"] == "done", f"job {job} is done")
        return self.told("GET", f"/jobs/{job}")

    def result(self, job: str) -> list[dict[str, Any]]:
        answer = self.client.get(f"/jobs/{job}/result", params={"format": "jsonl"})
        assert answer.status_code == 200, answer.text
        return [json.loads(line) for line in answer.text.splitlines()]


@pytest.fixture
def service(make: Callable[..., Pipeline]) -> Iterator[Service]:
    """A pipeline with an empty source table, and an API that is not started yet."""
    port = free_port()
    flow = make(API_PORT=str(port), **V1)
    flow.create()
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
