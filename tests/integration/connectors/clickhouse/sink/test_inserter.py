"""The sink when the server or the rows go wrong: nothing is lost, doubled or wrongly blamed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.schema.database import create_tables
from connectors.clickhouse.sink import inserter as inserts
from connectors.clickhouse.sink.batcher import FEWEST_ROWS
from connectors.clickhouse.sink.sink import writer_for
from connectors.local.stack import LocalStack
from streams.core.errors import LeaseLostError
from streams.core.records import Commit, Partition
from streams.core.settings import Settings
from tests.integration.connectors.clickhouse.engine import (
    Database,
    each_once,
    ids,
    run_until_stored,
    sink_for,
)
from tests.unit.connectors.clickhouse.sink.fakes import (
    A0,
    D0,
    L0,
    L1,
    TOPICS,
    FakeInput,
    FakeKafka,
    FakeLease,
    LateLease,
    augmented,
    labeled,
)
from tests.waiting import PATIENCE, eventually

# A constraint that fails with CANNOT_PARSE_IPV6 (676): an error of which nobody knows whose fault it is.
UNKNOWN_ERROR = "CHECK if(label = 'poison', toIPv6(label), toIPv6('::1')) != toIPv6('::2')"


async def constrain(database: Database, check: str, table: str = "logs_labeled") -> None:
    client, settings = database
    await client.command(f"ALTER TABLE {settings.result_database}.{table} ADD CONSTRAINT c {check}")


class Watched(FakeInput):
    """Notes the position of each commit."""

    def __init__(self, kafka: FakeKafka, partitions: list[Partition]) -> None:
        super().__init__(kafka, partitions, {})
        self.steps: list[int] = []

    async def commit(self, positions: Any) -> None:
        await super().commit(positions)
        self.steps.append(sum(max(one.offset, 0) for one in self.commits.values()))


async def test_many_refused_rows_keep_nobody_waiting_for_long(database: Database) -> None:
    client, settings = database
    await constrain(database, "CHECK label != 'poison'")
    kafka = FakeKafka()
    rows = 4 * FEWEST_ROWS
    poisoned = set(range(100, rows, 197))
    for number in range(rows):
        label = "poison" if number in poisoned else "login"
        kafka.publish(labeled(number, label=label), TOPICS.labeled, number % 2)
    source = Watched(kafka, [L0, L1])
    sink = sink_for(client, settings, kafka)
    await run_until_stored(sink, source)
    assert await ids(database) == each_once(set(range(rows)) - poisoned)
    assert (
        sink.counts["dead_letters"]
        == len(poisoned)
        == len(kafka.logs[D0]) + len(kafka.logs[Partition(TOPICS.dead_letter, 1)])
    )
    # From one commit to the next no more than a few hundred rows, some of them to be found by halving.
    gaps = [after - before for before, after in zip([0, *source.steps], source.steps, strict=False)]
    assert max(gaps) <= 2 * FEWEST_ROWS


async def test_rows_that_come_again_in_smaller_batches_are_stored_once(
    database: Database, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    """The server stores a part of a large insert, then fails: what is there must not be inserted again."""
    client, settings = database
    kafka = FakeKafka()
    for number in range(1000):
        kafka.publish(labeled(number), TOPICS.labeled)
        kafka.publish(augmented(number), TOPICS.augmented)
    sink = sink_for(client, settings, kafka)
    inserter = sink._inserter
    insert, failed = inserter.insert, []

    async def fails(table: str, batch: Any, topic_id: Any, generation: int) -> Any:
        if len(batch) > 300:
            failed.append(len(batch))
            await insert(table, batch.where(lambda record: record.offset % 3 == 0), topic_id, generation)
            raise inserts.SplitError("no room")
        return await insert(table, batch, topic_id, generation)

    monkeypatch.setattr(inserter, "insert", fails)
    await run_until_stored(sink, FakeInput(kafka, [L0, A0], {}))
    assert failed
    assert await ids(database) == each_once(range(1000))
    assert await ids(database, "logs_augmented") == each_once(range(1000))


async def test_a_row_is_blamed_for_an_unknown_error_if_others_can_be_stored(
    database: Database, quick: None
) -> None:
    client, settings = database
    await constrain(database, UNKNOWN_ERROR)
    kafka = FakeKafka()
    for number in range(20):
        kafka.publish(labeled(number, label="poison" if number == 7 else "login"), TOPICS.labeled)
    await run_until_stored(sink_for(client, settings, kafka), FakeInput(kafka, [L0], {}))
    assert await ids(database) == each_once(set(range(20)) - {7})
    assert [record.header("row-id") for record in kafka.logs[D0]] == [b"7"]


async def test_no_row_is_blamed_for_an_unknown_error_that_all_have(
    database: Database, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    client, settings = database
    await constrain(database, UNKNOWN_ERROR)
    kafka = FakeKafka()
    for number in range(3):
        kafka.publish(labeled(number, label="poison"), TOPICS.labeled)
    source = FakeInput(kafka, [L0], {})
    task = asyncio.create_task(run_until_stored(sink_for(client, settings, kafka), source))
    said = ""

    def listen() -> bool:
        nonlocal said
        said += capsys.readouterr().out
        return said.count("rows_fail_alone") >= 3

    await eventually(listen, "the trouble is named three times")
    assert D0 not in kafka.logs
    assert not source.commits
    # Another row shows that the server can store: now it is theirs.
    kafka.publish(labeled(3), TOPICS.labeled)
    await task
    assert await ids(database) == each_once([3])
    assert len(kafka.logs[D0]) == 3


async def test_a_full_disk_is_nobodys_fault(
    database: Database, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    client, settings = database
    kafka = FakeKafka()
    for number in range(3):
        kafka.publish(labeled(number), TOPICS.labeled)
    sink = sink_for(client, settings, kafka)
    put, failures = sink._inserter._writer.call, []

    def full(call: Any) -> Any:
        if len(failures) < 30:
            failures.append(1)
            raise inserts.UnavailableError("Code: 243. DB::Exception: Cannot reserve 1.00 MiB")
        return put(call)

    writer = ClickHouseClient.from_settings(settings)
    monkeypatch.setattr(writer, "call", full)
    sink = sink_for(client, settings, kafka, writer=writer)
    await run_until_stored(sink, FakeInput(kafka, [L0], {}))
    monkeypatch.undo()
    await writer.close()
    assert len(failures) == 30
    assert await ids(database) == each_once(range(3))
    assert D0 not in kafka.logs


@pytest.mark.parametrize("lost", ["generation", "heartbeats"])
async def test_an_insert_during_which_the_lease_is_lost_is_not_stored(
    database: Database, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """A process that was paused with the insert's data out, but not its end."""
    client, settings = database
    kafka = FakeKafka()
    records = [kafka.publish(labeled(number), TOPICS.labeled) for number in range(1000)]
    pieces, lease = inserts._pieces, FakeLease()

    def paused(body: memoryview, ours: Callable[[], None]) -> Iterator[bytes]:
        for number, piece in enumerate(pieces(body, ours)):
            yield piece
            if number == 0 and lost == "generation":
                lease.generation = 2
            elif number == 0:
                monkeypatch.setattr(lease, "held", lambda: False)
                threading.Timer(0.5, monkeypatch.undo).start()

    monkeypatch.setattr(inserts, "_pieces", paused)
    sink = sink_for(client, settings, kafka, lease=lease)
    await sink.assigned({L0: Commit(-1)}, 1)
    if lost == "generation":
        with pytest.raises(LeaseLostError):
            await sink.store(records)
        assert await ids(database) == Counter()
    else:
        # Late heartbeats: still ours, so it is tried again.
        await sink.store(records)
        assert sink.counts["retries"] >= 1
        assert await ids(database) == each_once(range(1000))


@pytest.mark.parametrize("value", ["row", "garbage"])
async def test_nothing_goes_out_while_the_heartbeats_are_late(database: Database, value: str) -> None:
    client, settings = database
    kafka, lease = FakeKafka(), LateLease()
    if value == "row":
        record = kafka.publish(labeled(1), TOPICS.labeled)
    else:
        record = kafka.put(TOPICS.labeled, 0, b"garbage")
    writer = ClickHouseClient.from_settings(settings)
    calls, put = [], writer.call
    writer.call = lambda call: (calls.append(1), put(call))[1]  # type: ignore[method-assign, func-returns-value]
    sink = sink_for(client, settings, kafka, lease=lease, writer=writer)
    lease.beat.set()
    await sink.assigned({L0: Commit(-1)}, 1)
    lease.beat.clear()
    storing = asyncio.create_task(sink.store([record]))
    await asyncio.wait_for(lease.waiting.wait(), PATIENCE)
    await asyncio.sleep(0.2)
    assert not calls
    assert D0 not in kafka.logs
    lease.beat.set()
    await storing
    assert (await ids(database) == each_once([1])) == (value == "row")
    assert (D0 in kafka.logs) == (value == "garbage")
    await writer.close()


async def test_a_slow_server_gets_fewer_rows_at_once(
    database: Database, address: tuple[str, int], monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    """Each insert of many rows takes longer than it may; the heartbeats go on, rows get stored."""
    client, settings = database
    monkeypatch.setattr(inserts, "INSERT_SECONDS", 1)
    await constrain(database, "CHECK sleepEachRow(0.002) = 0")
    kafka = FakeKafka()
    for number in range(1500):
        kafka.publish(labeled(number), TOPICS.labeled)
    beats = 0

    async def heartbeat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0.05)
            beats += 1

    # What heartbeats there are in a second on this machine as it is, with nothing else in this process.
    beating = asyncio.create_task(heartbeat())
    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.sleep(1.0)
    usual = beats / (loop.time() - began)
    beats, began = 0, loop.time()
    source = Watched(kafka, [L0])
    sink = sink_for(client, settings, kafka)
    await run_until_stored(sink, source)
    beating.cancel()
    seconds = loop.time() - began
    assert await ids(database) == each_once(range(1500))
    assert sink.counts["retries"] > 0
    assert D0 not in kafka.logs
    assert len(source.steps) > 2
    assert beats > usual * seconds / 4


class Front:
    """A ClickHouse whose process can be killed; it comes back on the same port."""

    def __init__(self, folder: Path) -> None:
        self._stack = LocalStack(folder)
        self.up()

    def up(self) -> None:
        part = self._stack.up(kafka=False, llm=False).clickhouse
        assert part.host
        assert part.port
        assert part.pid
        self.address, self._pid = (part.host, part.port), part.pid

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        while self._stack.status().clickhouse.pid is not None:
            time.sleep(0.01)

    def down(self) -> None:
        self._stack.down()


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    made = Front(tmp_path)
    yield made
    made.down()


async def test_clickhouse_killed_in_mid_insert_again_and_again(front: Front) -> None:
    """kill -9 of the server while inserts are under way: nothing lost, nothing doubled, nobody blamed."""
    settings = Settings(clickhouse_host=front.address[0], clickhouse_port=front.address[1])
    client = ClickHouseClient.from_settings(settings)
    writer = writer_for(settings, client)
    await create_tables(client, settings)
    kafka, rows, kills = FakeKafka(), 40_000, 4
    for number in range(rows):
        kafka.publish(labeled(number), TOPICS.labeled, number % 2)
    source = FakeInput(kafka, [L0, L1], {})
    sink = sink_for(client, settings, kafka, writer=writer)
    fetch = source.fetch

    async def some(*, seconds: float, most: int) -> Any:
        await asyncio.sleep(0.1)  # so that there are many inserts
        return await fetch(seconds=seconds, most=500)

    source.fetch = some  # type: ignore[method-assign]
    under_way = threading.Event()
    put = inserts._encoded
    choice = random.Random(7)

    def seen(arrow: Any) -> Any:
        body = put(arrow)
        under_way.set()
        return body

    inserts._encoded = seen
    try:
        task = asyncio.create_task(run_until_stored(sink, source))
        for _ in range(kills):
            under_way.clear()
            await asyncio.to_thread(under_way.wait, PATIENCE)
            await asyncio.sleep(choice.uniform(0, 0.03))
            await asyncio.to_thread(front.kill)
            await asyncio.to_thread(front.up)
        await task
    finally:
        inserts._encoded = put
    found = await ids((client, settings))
    assert len(found) == rows
    assert set(found.values()) == {1}
    assert not [one for one in kafka.logs if one.topic == TOPICS.dead_letter]
    assert sink.counts["retries"] >= 1
    await client.close()
    await writer.close()
