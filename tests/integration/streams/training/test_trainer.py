"""The trainer on the real parts: it certifies what it learned, revokes it and repairs, and is killed."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from aiokafka import AIOKafkaProducer

from agents.proxy.audited import number_of
from streams.core.cascade import CascadeState
from streams.core.codec import encode, headers_of
from streams.core.messages import Labeled, Row
from streams.core.topics import partition_of
from tests.integration.pipeline import Pipeline
from tests.kafka_tools import last_values
from tests.waiting import eventually

WORDS = {"delivery": "доставка курьер", "payment": "оплата картой", "app_bug": "приложение ошибка"}
BEFORE = ("где моя", "не прошла", "опять", "подскажите про", "что с", "почему")


async def test_a_proxy_is_certified_revoked_and_its_rows_are_repaired_though_trainers_are_killed(
    make: Callable[..., Pipeline],
) -> None:
    flow = make(CASCADE="on", LABEL_VERSION="v1", AUGMENT_VARIANTS="0")
    flow.create()
    flow.start("agents", "sink")
    first, second = flow.start("trainer", "trainer")
    numbers = itertools.count(1)
    await publish(flow, [labeled(n) for n in itertools.islice(numbers, 1_600)])
    state = await reached(flow, "certified")
    assert (state.generation, state.certified_against) == (1, "llm")
    first.kill()

    # What comes on the rows topic is the proxy's now, but for the audited ones.
    rows = [labeled(n) for n in itertools.islice(numbers, 60)]
    await publish(flow, [Row(**one.model_dump(include=set(Row.model_fields))) for one in rows])
    flow.wait(lambda: flow.count("logs_labeled") == 1_600 + len(rows), "rows are labelled")
    routed = by_proxy(flow)
    assert len(routed) > 30, flow.explain()
    # The audited ones, with the smallest hashes: whatever the rate is, they are.
    audited = (n for n in numbers if number_of("audit/v1", text_of(n)) < 0.003)
    flips = [
        labeled(n, "payment") for n in itertools.islice((n for n in audited if label_of(n) == "delivery"), 40)
    ]
    await publish(flow, flips)
    state = await reached(flow, "revoked")
    assert "delivery" in state.revoked_why
    second.kill()
    flow.start("trainer")

    flow.wait(lambda: not by_proxy(flow), "what the proxy labelled is labelled by the model")
    times = Counter((one.key or b"").decode() for one in await flow.topic("labeled"))
    assert Counter(times.values()) == {1: 1_600 + len(flips) + len(rows) - len(routed), 2: len(routed)}
    assert {row_id for row_id, count in times.items() if count == 2} == routed


def by_proxy(flow: Pipeline) -> set[str]:
    """The rows whose newest label is the proxy's."""
    found = flow.rows(
        "SELECT row_id FROM (SELECT row_id, argMax(decided_by, (labeled_at, _offset)) AS by "
        f"FROM {flow.database}.logs_labeled GROUP BY row_id) WHERE by = 'proxy'"
    )
    return {str(row_id) for (row_id,) in found}


def label_of(number: int) -> str:
    return list(WORDS)[number % len(WORDS)]


def text_of(number: int) -> str:
    return f"{BEFORE[number % len(BEFORE)]} {WORDS[label_of(number)]} {number}"


def labeled(number: int, label: str = "") -> Labeled:
    at = datetime.now(UTC)
    return Labeled(
        row_id=str(number),
        text=text_of(number),
        created_at=at - timedelta(hours=1),
        polled_at=at,
        label=label or label_of(number),
        label_version="v1",
        model="m",
        labeled_at=at,
    )


async def publish(flow: Pipeline, messages: Sequence[Row]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=flow.kafka)
    await producer.start()
    try:
        for one in messages:
            await producer.send(
                f"{flow.prefix}.{'labeled' if isinstance(one, Labeled) else 'rows'}",
                encode(one),
                one.row_id.encode(),
                partition=partition_of(one.text, 4),
                headers=headers_of(one, source=("elsewhere", 0, int(one.row_id))),
            )
    finally:
        await producer.stop()


async def reached(flow: Pipeline, wanted: str) -> CascadeState:
    found: list[CascadeState] = []

    async def there() -> bool:
        value = (await last_values(flow.kafka, f"{flow.prefix}.versions")).get("cascade/v1")
        found[:] = [CascadeState.model_validate_json(value)] if value else []
        return bool(found) and found[0].state == wanted

    await eventually(there, lambda: f"the cascade is {wanted}: {found}\n{flow.explain()}")
    return found[0]
