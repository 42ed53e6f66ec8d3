"""Server-sent events: their form, filters, ids that resume, and streams that end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from connectors.api.routes import label_stream as module
from connectors.api.routes.label_stream import EventStream, Streams
from streams.core.errors import RefusedError
from streams.core.records import Record
from streams.ports.label_feed import LiveSlice, live_label
from tests.unit.connectors.api.fakes import Fakes, client_of, item
from tests.waiting import PATIENCE

SLICES = [
    LiveSlice((0, 5), []),
    LiveSlice((0, 5), [item(0, label="refund"), item(1), item(5, partition=1, confidence=None)]),
    LiveSlice((2, 6), []),
    LiveSlice((2, 6), [item(2, data=b""), item(3, source_domain="shop", confidence=0.2)]),
]


def events(text: str) -> list[tuple[str, str]]:
    """Id and data of each event that a browser would see, as the standard reads the stream."""
    found, last = [], ""
    for block in text.split("\n\n"):
        data = ""
        for line in block.split("\n"):
            name, _, value = line.partition(": ")
            last = value if name == "id" else last
            data = value if name == "data" else data
        if data:
            found.append((last, data))
    return found


async def read(fakes: Fakes, query: str = "", **headers: str) -> str:
    async with client_of(fakes) as client:
        answer = await client.get(f"/stream/labeled{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    return answer.text


async def test_each_event_says_where_the_next_begins() -> None:
    text = await read(Fakes(slices=SLICES))
    assert text.startswith("retry: 2000\nid: 0.5\n\n")
    assert events(text) == [
        ("1.5", '{"n":0}'),
        ("2.5", '{"n":1}'),
        ("2.6", '{"n":5}'),
        ("4.6", '{"n":3}'),
    ]
    assert ": nothing new\nid: 2.6\n\n" in text


@pytest.mark.parametrize(
    ("query", "seen"),
    [
        ("?label=refund", [0]),
        ("?label=refund&label=delivery", [0, 1, 5, 3]),
        ("?min_confidence=0.5", [0, 1]),
        ("?max_confidence=0.5", [3]),
        ("?min_confidence=0&max_confidence=0.1", []),
        ("?source=shop", [3]),
        ("?source=shop&label=refund", []),
    ],
)
async def test_only_what_is_wanted_is_sent(query: str, seen: list[int]) -> None:
    text = await read(Fakes(slices=SLICES), query)
    assert [data for _, data in events(text)] == [f'{{"n":{number}}}' for number in seen]


async def test_a_client_says_where_to_begin() -> None:
    fakes = Fakes(slices=SLICES)
    await read(fakes)
    await read(fakes, "?start=beginning")
    await read(fakes, "?start=beginning&last_event_id=3.4")
    await read(fakes, "?last_event_id=3.4", **{"Last-Event-ID": "7.8"})
    assert fakes.asked == ["now", "beginning", (3, 4), (7, 8)]


async def test_an_id_of_another_topic_is_refused() -> None:
    async with client_of(Fakes(slices=SLICES)) as client:
        for last in ("x", "1.", "-1.2", "1.2\u00b2", "9" * 30):
            answer = await client.get("/stream/labeled", params={"last_event_id": last})
            assert answer.status_code == 422, last
            in_header = await client.get("/stream/labeled", headers={"Last-Event-ID": last.encode()})
            assert in_header.status_code == 422, last
    async with client_of(Fakes(error=RefusedError("no", reason="unknown-position"))) as client:
        assert (await client.get("/stream/labeled")).status_code == 409


async def test_a_stream_too_many_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_STREAMS", 0)
    async with client_of(Fakes(slices=SLICES)) as client:
        answer = await client.get("/stream/labeled")
    assert (answer.status_code, answer.json()["code"]) == (503, "too-many-streams")
    assert "retry-after" in answer.headers


class Line:
    """A connection: what was sent, and whether the client still takes anything or is still there."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.takes = asyncio.Event()
        self.gone = asyncio.Event()

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.body":
            await self.takes.wait()
        self.sent.append(message)

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}


def endless(closed: asyncio.Event) -> Any:
    async def pieces() -> Any:
        try:
            while True:
                yield b": x\n\n"
                await asyncio.sleep(0)
        finally:
            closed.set()

    return pieces()


async def test_a_client_that_takes_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STUCK_SECONDS", 0.05)
    line, closed, streams = Line(), asyncio.Event(), Streams(9.0)
    async with asyncio.timeout(PATIENCE):
        await EventStream(endless(closed), streams, 60.0)({}, line.receive, line.send)
    assert closed.is_set()
    assert streams.open == 0
    assert [one["type"] for one in line.sent] == ["http.response.start"]


async def test_a_client_that_leaves_frees_what_it_held() -> None:
    line, closed, streams = Line(), asyncio.Event(), Streams(9.0)
    line.takes.set()
    answering = asyncio.create_task(EventStream(endless(closed), streams, 60.0)({}, line.receive, line.send))
    while len(line.sent) < 3:
        await asyncio.sleep(0)
    assert streams.open == 1
    line.gone.set()
    async with asyncio.timeout(PATIENCE):
        await answering
    assert closed.is_set()
    assert streams.open == 0


async def test_a_stream_ends_after_the_time_that_was_asked_for() -> None:
    line, closed = Line(), asyncio.Event()
    line.takes.set()
    async with asyncio.timeout(PATIENCE):
        await EventStream(endless(closed), Streams(9.0), 0.05)({}, line.receive, line.send)
    assert closed.is_set()
    assert line.sent[-1]["more_body"] is False


def test_what_is_no_label_counts_for_the_place_and_a_broken_line_does_not_break_an_event() -> None:
    def of(value: bytes | None) -> Record:
        return Record("esk.labeled", 1, 9, 0, b"k", value)

    for value in (None, b"", b"no json", b"[]", b'{"confidence": 1}', b'"label"'):
        one = live_label(of(value))
        assert (one.partition, one.offset, one.data) == (1, 9, b"")
    one = live_label(of(b'{"label": "a",\r\n "confidence": 1, "source_domain": 5}'))
    assert b"\n" not in one.data
    assert b"\r" not in one.data
    assert (one.label, one.confidence, one.source_domain) == ("a", 1.0, None)
