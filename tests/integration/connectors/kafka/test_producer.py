"""The producer on the real broker: refusals harm no neighbours, and a fence takes back what was not sent."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from connectors.kafka.connection import connection
from connectors.kafka.producer import LeasedProducer
from connectors.kafka.sending import batch_sizes
from connectors.kafka.tail import TailReader
from streams.core.errors import LabelstreamError, LeaseLostError, RefusedError
from streams.core.records import Outgoing, Partition, Run
from streams.core.settings import Settings
from tests.kafka_tools import known, make_topic
from tests.stack import SharedStack, fresh_name
from tests.waiting import eventually


@pytest.fixture(scope="module")
def arguments(shared: SharedStack) -> dict[str, Any]:
    return connection(Settings(kafka_bootstrap_servers=shared.kafka().address))


@pytest.fixture
async def topic(arguments: dict[str, Any]) -> str:
    """Two partitions that take messages of at most 20,000 bytes."""
    name = fresh_name("small")
    await make_topic(arguments, name, 2, {"max.message.bytes": "20000"})
    return name


_RANDOM = random.Random(1)


def noise(size: int) -> bytes:
    """Bytes that no compression makes fewer."""
    return _RANDOM.randbytes(size)


class Lease:
    """Held or not, as the test says."""

    generation = 1

    def __init__(self) -> None:
        self.may = True

    def held(self) -> bool:
        return self.may

    async def hold(self, generation: int) -> None: ...


async def written(arguments: dict[str, Any], topic: str) -> Counter[bytes | None]:
    found: Counter[bytes | None] = Counter()
    async for records in TailReader(arguments).read_many({Partition(topic, 0): 0, Partition(topic, 1): 0}):
        found.update(record.key for record in records)
    return found


async def test_messages_too_large_for_the_topic_harm_no_neighbours(
    arguments: dict[str, Any], topic: str
) -> None:
    producer = LeasedProducer(arguments)

    async def send(number: int) -> int | None:
        size = 50_000 if number % 20 == 7 else 100
        message = Outgoing(topic, number % 2, b"%d" % number, noise(size))
        try:
            return await producer.send(message)
        except RefusedError:
            return None

    offsets = await asyncio.gather(*(send(number) for number in range(200)))
    await producer.stop()
    refused = {number for number, offset in enumerate(offsets) if offset is None}
    assert refused == {number for number in range(200) if number % 20 == 7}
    expected = {b"%d" % number: 1 for number in range(200) if number not in refused}
    assert await written(arguments, topic) == expected


async def test_batches_have_the_size_that_the_topic_takes(arguments: dict[str, Any], topic: str) -> None:
    producer = LeasedProducer(arguments)
    await producer.start()
    first = producer._current
    # Together ten times what a batch may have, alone and in bulk.
    some = [Outgoing(topic, number % 2, b"a%d" % number, noise(400)) for number in range(1_000)]
    alone = await asyncio.gather(*(producer.send(message) for message in some))
    assert Counter(alone) == Counter([*range(500), *range(500)])
    offsets = await producer.send_many([message._replace(key=b"b%d" % at) for at, message in enumerate(some)])
    assert offsets[::2] == offsets[1::2] == list(range(500, 1_000))
    assert producer._current is first  # no batch was refused
    await producer.stop()
    assert set((await written(arguments, topic)).values()) == {1}


async def limit(arguments: dict[str, Any], topic: str, size: int) -> None:
    """Change how large a batch the topic takes."""
    admin = AIOKafkaAdminClient(**arguments)
    await admin.start()
    config = {"max.message.bytes": str(size)}
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, config)])
    await known(admin, topic, 2, config)
    await admin.close()


async def test_a_limit_that_somebody_changes_is_noticed(
    arguments: dict[str, Any], topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_sizes, "_AGAIN_SECONDS", 0.0)
    producer = LeasedProducer(arguments)

    async def send(name: str, *sizes: int) -> list[int]:
        messages = [Outgoing(topic, 0, b"%s%d" % (name.encode(), at), noise(n)) for at, n in enumerate(sizes)]
        return await asyncio.gather(*(producer.send(message) for message in messages))

    assert sorted(await send("first", *[400] * 100)) == list(range(100))
    await limit(arguments, topic, 2_000)
    assert sorted(await send("smaller", *[400] * 100)) == list(range(100, 200))
    calm = producer._current
    assert sorted(await send("calm", *[400] * 100)) == list(range(200, 300))
    with pytest.raises(RefusedError, match="takes 2000"):
        await send("large", 5_000)
    assert producer._current is calm
    await limit(arguments, topic, 6_000)
    assert await send("larger", 5_000) == [300]
    await producer.stop()
    assert set((await written(arguments, topic)).values()) == {1}


async def test_where_nobody_tells_the_limit_a_refusal_does(
    arguments: dict[str, Any], topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def untold(client: Any, topic: str) -> None: ...

    monkeypatch.setattr(batch_sizes, "_ask", untold)
    producer = LeasedProducer(arguments)
    messages = [Outgoing(topic, 0, b"%d" % number, noise(400)) for number in range(150)]
    await asyncio.gather(*(producer.send(message) for message in messages))
    while producer._sizes.batch(topic) > 20_000:
        with pytest.raises(RefusedError):
            await producer.send_many(messages[:60])
    before = (await written(arguments, topic))[b"149"]
    assert before == 1
    await producer.send_many(messages)
    await producer.stop()
    assert (await written(arguments, topic))[b"149"] == 2


async def test_what_waits_for_the_lease_is_taken_back_by_a_fence(
    arguments: dict[str, Any], topic: str
) -> None:
    lease = Lease()
    producer = LeasedProducer(arguments, lease)
    await producer.send(Outgoing(topic, 0, b"before", b"x"))
    lease.may = False
    waiting = [asyncio.create_task(producer.send(Outgoing(topic, 0, b"held", b"x"))) for _ in range(3)]
    await asyncio.sleep(0.3)
    assert not any(task.done() for task in waiting)
    producer.fence()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(outcome, LeaseLostError) for outcome in outcomes)
    lease.may = True
    await producer.send(Outgoing(topic, 0, b"after", b"x"))
    await producer.stop()
    assert await written(arguments, topic) == {b"before": 1, b"after": 1}


class LostMeanwhile(Lease):
    """Held at the first look after ``lose``, away at the second, until ``may`` again."""

    def lose(self) -> None:
        self.may = False
        self.looks = 0

    def held(self) -> bool:
        if self.may:
            return True
        self.looks += 1
        return self.looks == 1


async def test_a_lease_that_is_lost_while_the_request_is_made_holds_it_back(
    arguments: dict[str, Any], topic: str
) -> None:
    lease = LostMeanwhile()
    producer = LeasedProducer(arguments, lease)
    await producer.send(Outgoing(topic, 0, b"before", b"x"))
    lease.lose()
    late = asyncio.create_task(producer.send(Outgoing(topic, 0, b"late", b"x")))
    await eventually(lambda: lease.looks > 2)
    assert not late.done()
    assert await written(arguments, topic) == {b"before": 1}
    lease.may = True
    await late
    lease.lose()
    lost = asyncio.create_task(producer.send(Outgoing(topic, 0, b"lost", b"x")))
    await eventually(lambda: lease.looks > 2)
    producer.fence()
    with pytest.raises(LeaseLostError):
        await lost
    lease.may = True
    await producer.send_many([Outgoing(topic, 0, b"after %d" % number, b"x") for number in range(3)])
    await producer.stop()
    after = {b"after %d" % number: 1 for number in range(3)}
    assert await written(arguments, topic) == {b"before": 1, b"late": 1, **after}


async def test_many_keep_their_order_and_their_offsets(arguments: dict[str, Any], topic: str) -> None:
    producer = LeasedProducer(arguments)
    messages = [Outgoing(topic, number % 2, b"%d" % number, b"x" * 100) for number in range(100)]
    offsets = await producer.send_many(messages)
    await producer.stop()
    for partition in (0, 1):
        mine = [
            offset
            for message, offset in zip(messages, offsets, strict=True)
            if message.partition == partition
        ]
        assert mine == list(range(50))
    assert set((await written(arguments, topic)).values()) == {1}


async def test_runs_take_turns_and_keep_their_order(arguments: dict[str, Any], topic: str) -> None:
    wide = fresh_name("wide")
    await make_topic(arguments, wide, 2)
    producer = LeasedProducer(arguments)
    value = noise(100_000)
    runs = [
        Run(wide, 1, ((b"%d" % at, value, [("h", b"%d" % at)]) for at in range(25))),
        Run(wide, 0, ((b"%d" % at, None, []) for at in range(3))),
    ]
    asked: list[int] = []

    def watched(run: Run) -> Run:
        def messages() -> Iterator[Any]:
            for message in run.messages:
                asked.append(run.partition)
                yield message

        return Run(run.topic, run.partition, messages())

    places = await asyncio.gather(*await producer.hand_over([watched(run) for run in runs]))
    await producer.stop()
    assert places[1] == [(0, 3)]
    assert len(places[0]) > 2
    assert [base for base, _ in places[0]] == [
        sum(count for _, count in places[0][:at]) for at in range(len(places[0]))
    ]
    assert sum(count for _, count in places[0]) == 25
    assert asked.index(0) < 25  # not after all of the first run
    found: list[tuple[int, bytes | None, Any]] = []
    async for records in TailReader(arguments).read_many({Partition(wide, 1): 0}):
        found += [(record.offset, record.key, record.headers) for record in records]
    assert found == [(at, b"%d" % at, (("h", b"%d" % at),)) for at in range(25)]


async def test_a_run_that_is_refused_leaves_the_others_written(arguments: dict[str, Any], topic: str) -> None:
    producer = LeasedProducer(arguments)
    runs = [
        Run(topic, 0, iter([(b"large", noise(50_000), [])])),
        Run(topic, 1, iter([(b"small", b"x", [])])),
    ]
    large, small = await producer.hand_over(runs)
    with pytest.raises(RefusedError):
        await large
    assert await small == [(0, 1)]
    await producer.stop()
    assert await written(arguments, topic) == {b"small": 1}


async def test_a_failure_of_many_is_told_when_all_are_settled(arguments: dict[str, Any], topic: str) -> None:
    """Who hears of it looks at what was written: nothing may come later."""
    producer = LeasedProducer(arguments)
    large = Outgoing(topic, 0, b"large", noise(50_000))
    small = [Outgoing(topic, 1, b"%d" % number, b"x") for number in range(200)]
    with pytest.raises(RefusedError):
        await producer.send_many([large, *small])
    assert (await written(arguments, topic)).total() == 200
    await producer.stop()


async def test_runs_of_one_partition_go_out_in_the_order_of_their_handing_over(
    arguments: dict[str, Any], topic: str
) -> None:
    producer = LeasedProducer(arguments)
    every = [[(b"%d" % (100 * first + at), b"x", []) for at in range(100)] for first in range(4)]
    runs = [Run(topic, 0, iter(messages)) for messages in every]
    sending = [task for run in runs for task in await producer.hand_over([run])]
    places = await asyncio.gather(*sending)
    await producer.stop()
    assert [sum(count for _, count in some) for some in places] == [100] * 4
    found = [record.key async for records in TailReader(arguments).read(topic, 0, 0) for record in records]
    assert found == [b"%d" % number for number in range(400)]


async def test_a_producer_whose_task_has_failed_is_replaced(arguments: dict[str, Any], topic: str) -> None:
    """aiokafka tells whoever waits, and nobody who comes later."""
    producer = LeasedProducer(arguments)
    await producer.send(Outgoing(topic, 0, b"before", b"x"))
    assert producer._current is not None
    sender: Any = producer._current._sender

    def broken(now: float) -> None:
        raise RuntimeError("impossible")

    sender._drained = broken
    with pytest.raises(LabelstreamError):
        await producer.send(Outgoing(topic, 0, b"lost", b"x"))
    await producer.send(Outgoing(topic, 0, b"after", b"x"))
    await producer.stop()
    assert await written(arguments, topic) == {b"before": 1, b"after": 1}
