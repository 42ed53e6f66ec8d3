"""An insert in time: given up before the session ends, and never finished behind the sink's back."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.sink.insert_fence import FIRST_SECONDS
from connectors.clickhouse.sink.sink import writer_for
from streams.core.errors import AccessError
from streams.core.records import Commit
from tests.integration.connectors.clickhouse.engine import (
    BadLine,
    Database,
    each_once,
    ids,
    run_until_stored,
    sink_for,
)
from tests.unit.connectors.clickhouse.sink.fakes import L0, TOPICS, FakeInput, FakeKafka, LateLease, labeled
from tests.waiting import PATIENCE


async def test_a_hanging_server_is_given_up_in_time(
    database: Database, address: tuple[str, int], monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    client, settings = database
    kafka = FakeKafka()
    kafka.publish(labeled(1), TOPICS.labeled)
    line = BadLine(address)
    writer = ClickHouseClient.from_settings(
        settings.model_copy(update={"clickhouse_port": line.address[1]}), answer_seconds=2.0
    )
    await writer.rows("SELECT 1")
    line.swallow_answers, line.times = True, 1
    try:
        sink = sink_for(client, settings, kafka, writer=writer)
        await run_until_stored(sink, FakeInput(kafka, [L0], {}))
        assert line.cuts == 1
        assert await ids(database) == each_once([1])
    finally:
        await writer.close()
        line.close()


@pytest.mark.parametrize("kept", ["end", "all"])
async def test_an_insert_that_was_given_up_cannot_finish_behind_our_back(
    database: Database, address: tuple[str, int], quick: None, kept: str
) -> None:
    """The end of its data, or the whole request, is still on the way, in a proxy, when it is tried again."""
    _client, settings = database
    kafka = FakeKafka()
    for number in range(10):
        kafka.publish(labeled(number), TOPICS.labeled)
    line = BadLine(address)
    writer = ClickHouseClient.from_settings(
        settings.model_copy(update={"clickhouse_port": line.address[1]}), answer_seconds=2.0
    )
    # Longer than the writer's patience, and than the moment until which the insert may begin.
    seconds, line.times = 4.0, 1
    line.stall_seconds, line.hold_seconds = (seconds, 0.0) if kept == "end" else (0.0, seconds)
    sink = sink_for(_client, settings, kafka, writer=writer)
    try:
        await run_until_stored(sink, FakeInput(kafka, [L0], {}))
        assert line.cuts == 1
        await asyncio.sleep(4.5)  # for what is still on its way
        assert await ids(database) == each_once(range(10))
    finally:
        await writer.close()
        line.close()


async def test_a_user_who_may_not_use_input_is_served_without_the_fence(
    database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client, settings = database
    kafka = FakeKafka()
    kafka.publish(labeled(1), TOPICS.labeled)
    writer = writer_for(settings, client)
    asked: list[bytes] = []
    call = writer.call

    def not_allowed(put: Callable[[Any], Any]) -> Any:
        class Driver:
            def raw_insert(self, *, insert_block: Iterator[bytes], settings: dict[str, Any]) -> None:
                statement = next(insert_block)
                asked.append(statement)
                if b"input(" in statement:
                    raise AccessError(
                        "Code: 497. DB::Exception: u: Not enough privileges. To execute this query, it's "
                        "necessary to have the grant CREATE TEMPORARY TABLE ON *.*. (ACCESS_DENIED)",
                        setting="CLICKHOUSE_USERNAME",
                        fix="grant it",
                    )
                blocks = itertools.chain((statement,), insert_block)
                call(lambda driver: driver.raw_insert(insert_block=blocks, settings=settings))

        return put(Driver())

    monkeypatch.setattr(writer, "call", not_allowed)
    await run_until_stored(sink_for(client, settings, kafka, writer=writer), FakeInput(kafka, [L0], {}))
    kafka.publish(labeled(2), TOPICS.labeled)
    assert await ids(database) == each_once([1])
    assert [b"input(" in statement for statement in asked] == [True, False]
    assert "CREATE TEMPORARY TABLE" in capsys.readouterr().out
    await writer.close()


async def test_an_insert_that_begins_late_is_tried_again_with_more_time(database: Database) -> None:
    """The server's clock was set, or it is slow to begin."""
    client, settings = database
    kafka = FakeKafka()
    kafka.publish(labeled(1), TOPICS.labeled)
    sink = sink_for(client, settings, kafka)
    fence = sink._inserter._fence
    await fence.set_clock()
    fence._ahead = -1e6
    await run_until_stored(sink, FakeInput(kafka, [L0], {}))
    assert sink.counts["retries"] == 1
    assert await ids(database) == each_once([1])


async def test_time_spent_waiting_for_heartbeats_is_not_the_insert_s(database: Database) -> None:
    client, settings = database
    kafka, lease = FakeKafka(), LateLease()
    record = kafka.publish(labeled(1), TOPICS.labeled)
    sink = sink_for(client, settings, kafka, lease=lease)
    lease.beat.set()
    await sink.assigned({L0: Commit(-1)}, 1)
    lease.beat.clear()
    storing = asyncio.create_task(sink.store([record]))
    await asyncio.wait_for(lease.waiting.wait(), PATIENCE)
    await asyncio.sleep(FIRST_SECONDS + 0.5)
    lease.beat.set()
    await storing
    assert sink.counts["retries"] == 0
    assert await ids(database) == each_once([1])
