"""One trace a row: made of its identity, carried through steps, dead letters and log lines."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from streams.core.codec import headers_of, traceparent_for
from streams.core.context import TRACEPARENT, trace_id_in
from streams.core.outcomes import Reject
from streams.core.records import Commit, Record
from streams.observability.logs import configure_logs
from tests.unit.streams.delivery.fakes import ROWS, Broker, label, make, record, row, settle


def test_the_header_has_the_w3c_form_and_is_the_row_s_for_ever() -> None:
    first, again = headers_of(row("1")), headers_of(row("1"), source=("rows", 0, 7))
    trace = dict(first)[TRACEPARENT]
    assert re.fullmatch(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", trace)
    assert dict(again)[TRACEPARENT] == trace
    assert dict(headers_of(row("2")))[TRACEPARENT] != trace
    # A source whose ids begin anew has other rows under the same ids.
    later = row("1").model_copy(update={"created_at": row("1").created_at.replace(year=2027)})
    assert dict(headers_of(later))[TRACEPARENT] != trace


def test_no_trace_id_is_read_from_what_is_none() -> None:
    assert [trace_id_in(header) for header in (None, b"", b"nonsense", b"00-12-34-00", b"\xff")] == [""] * 5


async def test_a_trace_goes_with_its_row_and_into_its_dead_letter() -> None:
    broker = Broker()

    async def step(message: Any) -> Any:
        return Reject("no-label", "why") if message.row_id == "2" else await label(message)

    delivery = make(broker, step)
    await delivery.assigned({ROWS: Commit(-1)}, 1)
    foreign = b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"
    delivery.offer(record(0, "0"), 1)  # came without
    brought = record(1, "1")
    delivery.offer(Record(*ROWS, 1, 0, b"1", brought.value, ((TRACEPARENT, foreign),)), 1)
    delivery.offer(record(2, "2"), 1)
    await settle(delivery)
    traces = {m.key: dict(m.headers)[TRACEPARENT] for m in broker.logs[("labeled", 0)]}
    assert traces == {b"0": traceparent_for(row("0")), b"1": foreign}
    (letter,) = broker.logs[("dead", 0)]
    assert dict(letter.headers)[TRACEPARENT] == traceparent_for(row("2"))


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    root = logging.getLogger()
    before = root.handlers[:]
    configure_logs("info", "json", "agents")
    yield stream
    structlog.reset_defaults()
    root.handlers[:] = before


async def test_lines_in_a_row_s_work_name_the_row_and_others_do_not(lines: io.StringIO) -> None:
    log = structlog.get_logger()
    broker = Broker()
    gate = asyncio.Event()

    async def step(message: Any) -> Any:
        await gate.wait()
        log.info("asked", text="t")
        return Reject("no-label", "why")

    delivery = make(broker, step)
    await delivery.assigned({ROWS: Commit(-1)}, 1)
    for offset in range(3):
        delivery.offer(record(offset, f"r{offset}"), 1)
    log.info("beside")
    gate.set()
    await settle(delivery)
    found = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert all({"timestamp", "level", "event", "role"} <= set(line) for line in found)
    assert {line["role"] for line in found} == {"agents"}
    for event in ("asked", "dead_letter"):
        mine = {line["row_id"]: line["trace_id"] for line in found if line["event"] == event}
        assert mine == {f"r{n}": trace_id_in(traceparent_for(row(f"r{n}"))) for n in range(3)}
    (beside,) = [line for line in found if line["event"] == "beside"]
    assert "row_id" not in beside
    assert "trace_id" not in beside


def test_lines_of_libraries_are_json_too(lines: io.StringIO) -> None:
    logging.getLogger("some.library").warning("disk %s", "full")
    (line,) = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert (line["event"], line["level"], line["role"]) == ("disk full", "warning", "agents")
    assert line["logger"] == "some.library"
