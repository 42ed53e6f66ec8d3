"""How fast is the sink, compared with plain aiokafka and plain clickhouse-connect with the same rows?

``python -m bench.sink --rows 300000 [--json]``. Two raw clients, in processes of their own: `columns` makes
Python lists and inserts them by columns in Native format, `arrow` is the fastest known. Time starts when the
partitions are assigned and ends when the last row is stored (for the sink: committed too).
"""

from __future__ import annotations

import asyncio
import io
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from bench.harness import Measured, cpu_seconds, measure, options, report, say, stack
from streams.core.settings import Settings
from streams.core.topics import Topics

TEXTS = (
    "не могу войти в личный кабинет, пишет неверный пароль",
    "подскажите, пожалуйста, когда отключат горячую воду по адресу улица Ленина, дом 5",
    "оплатил квитанцию два раза, верните деньги",
    "как записать ребёнка в первый класс через портал? Заявление не отправляется уже третий день",
)
BATCH = 50_000


def fill(settings: Settings, rows: int) -> float:
    """Publish ``rows`` labelled rows; returns the mean size of a message in bytes."""
    return asyncio.run(_fill(settings, rows))


async def _fill(settings: Settings, rows: int) -> float:
    from connectors.kafka.admin import Admin
    from connectors.kafka.connection import connection
    from connectors.kafka.producer import LeasedProducer
    from streams.core.codec import encode, headers_of
    from streams.core.messages import Alternative, Labeled
    from streams.core.records import Outgoing

    topics = Topics(settings.topic_prefix)
    await Admin(connection(settings)).create_topics(settings)
    producer = LeasedProducer(connection(settings))
    await producer.start()
    start, size = datetime(2026, 3, 1, tzinfo=UTC), 0
    for first in range(0, rows, 20_000):
        outgoing = []
        for number in range(first, min(first + 20_000, rows)):
            moment = start + timedelta(milliseconds=37 * number, microseconds=number % 1000)
            message = Labeled(
                row_id=str(number),
                text=f"{TEXTS[number % len(TEXTS)]} № {number}",
                created_at=moment,
                user_id=f"u{number % 5000}",
                session_id=f"s{number % 50_000}",
                source_domain=None,
                polled_at=moment + timedelta(seconds=1),
                label=("login", "water", "payment", "school")[number % 4],
                confidence=0.5 + number % 100 / 250,
                alternatives=[
                    Alternative(label="other", confidence=0.2),
                    Alternative(label="roads", confidence=0.1),
                ],
                label_version="mistral-7b@3f2a9c1d",
                model="mistral-7b",
                labeled_at=moment + timedelta(seconds=2),
            )
            value = encode(message)
            size += len(value)
            where = number % settings.topic_partitions
            outgoing.append(
                Outgoing(
                    topics.labeled, where, str(number).encode(), value,
                    headers_of(message, source=(topics.rows, where, number)),
                )
            )  # fmt: skip
        await producer.send_many(outgoing)
    await producer.stop()
    return size / rows


# --- the raw clients ---


def raw_columns(settings: Settings, rows: int, database: str) -> dict[str, float]:
    """Consume, orjson, lists, ``insert`` by columns."""
    import orjson

    names = _names()
    times = {"created_at", "polled_at", "labeled_at"}
    read_time = datetime.fromisoformat

    def store(driver: Any, records: Sequence[Any]) -> None:
        messages = [orjson.loads(record.value) for record in records]
        columns: list[list[Any]] = []
        for name in names:
            if name in times:
                columns.append([read_time(message[name]) for message in messages])
            elif name == "alternatives":
                columns.append(
                    [[(one["label"], one["confidence"]) for one in message[name]] for message in messages]
                )
            else:
                columns.append([message[name] for message in messages])
        places = [
            [record.topic for record in records],
            [uuid.UUID(int=0)] * len(records),
            [record.partition for record in records],
            [record.offset for record in records],
        ]
        driver.insert(
            "logs_labeled",
            columns + places,
            column_names=[*names, *_PLACES],
            database=database,
            column_oriented=True,
            settings={"async_insert": 0},
        )

    return asyncio.run(_raw(settings, rows, store))


def raw_arrow(settings: Settings, rows: int, database: str) -> dict[str, float]:
    """Consume, Arrow's JSON reader, ``insert_arrow``."""
    import pyarrow as pa
    import pyarrow.json as pj

    from connectors.clickhouse.schema.columns import columns_of
    from streams.core.messages import Labeled

    schema = pa.schema([(column.name, column.arrow) for column in columns_of(Labeled)])

    def store(driver: Any, records: Sequence[Any]) -> None:
        text = b"\n".join([record.value for record in records])
        table = pj.read_json(
            io.BytesIO(text),
            read_options=pj.ReadOptions(block_size=len(text) + 1, use_threads=False),
            parse_options=pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
        count = len(records)
        for name, values in zip(
            _PLACES,
            (
                pa.array([records[0].topic] * count),
                pa.array([bytes(16)] * count, pa.binary(16)),
                pa.array([record.partition for record in records], pa.int32()),
                pa.array([record.offset for record in records], pa.int64()),
            ),
            strict=True,
        ):
            table = table.append_column(name, values)
        driver.insert_arrow("logs_labeled", table, database=database, settings={"async_insert": 0})

    return asyncio.run(_raw(settings, rows, store))


_PLACES = ("_topic", "_topic_id", "_partition", "_offset")


def _names() -> list[str]:
    from streams.core.messages import Labeled

    return list(Labeled.model_fields)


async def _raw(settings: Settings, rows: int, store: Any) -> dict[str, float]:
    """Consume and ``store`` in batches; the next one is fetched while a thread stores the last one."""
    import clickhouse_connect
    from aiokafka import AIOKafkaConsumer, TopicPartition

    driver = clickhouse_connect.get_client(host=settings.clickhouse_host, port=settings.clickhouse_port)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=4_000_000,
    )
    await consumer.start()
    topic = Topics(settings.topic_prefix).labeled
    consumer.assign([TopicPartition(topic, number) for number in range(settings.topic_partitions)])
    began, cpu = time.perf_counter(), cpu_seconds()
    storing: asyncio.Task[None] | None = None
    taken = 0
    while taken < rows:
        records: list[Any] = []
        while len(records) < BATCH and taken + len(records) < rows:
            for found in (await consumer.getmany(timeout_ms=1000, max_records=BATCH - len(records))).values():
                records += found
        taken += len(records)
        if storing is not None:
            await storing
        storing = asyncio.ensure_future(asyncio.to_thread(store, driver, records))
    if storing is not None:
        await storing
    seconds, used = time.perf_counter() - began, cpu_seconds() - cpu
    await consumer.stop()
    driver.close()
    return {"seconds": seconds, "cpu_seconds": used}


# --- labelstream ---


def sink(settings: Settings, rows: int, group: str) -> dict[str, float]:
    """The sink as `labelstream run sink` runs it, but in ``group``, until everything is committed."""
    import structlog

    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    import uvloop

    figures: dict[str, float] = uvloop.run(_sink(settings, rows, group))
    return figures


async def _sink(settings: Settings, rows: int, group: str) -> dict[str, float]:
    from connectors.clickhouse.client.client import ClickHouseClient
    from connectors.clickhouse.sink.sink import Sink, writer_for
    from connectors.kafka.admin import Admin
    from connectors.kafka.connection import connection
    from connectors.kafka.consumer import GroupConsumer, Session
    from connectors.kafka.tail import TailReader
    from streams.core.records import Commit, Partition

    topics, kafka = Topics(settings.topic_prefix), connection(settings)
    client = ClickHouseClient.from_settings(settings)
    writer = writer_for(settings, client)
    consumer = GroupConsumer(kafka, replace(topics.groups.sink, name=group))
    await consumer.producer.start()
    ours = Sink(
        client, settings.result_database, topics,
        sender=consumer.producer, tail=TailReader(kafka), topic_ids=Admin(kafka), lease=consumer.lease,
        writer=writer,
    )  # fmt: skip
    figures: dict[str, float] = {}
    done = asyncio.Event()

    async def work(session: Session) -> None:
        began, cpu, reached = time.perf_counter(), cpu_seconds(), dict[Partition, int]()
        commit = session.commit

        async def committed(positions: dict[Partition, Commit]) -> None:
            await commit(positions)
            reached.update({partition: position.offset for partition, position in positions.items()})
            if sum(reached.values()) >= rows:
                figures.update(
                    seconds=time.perf_counter() - began,
                    cpu_seconds=cpu_seconds() - cpu,
                    batches=ours.counts["batches"],
                )
                done.set()

        session.commit = committed  # type: ignore[method-assign, assignment]
        await ours.run(session, session.committed, session.generation)

    running = asyncio.create_task(consumer.join(work))
    waiting = asyncio.create_task(done.wait())
    await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED)
    running.cancel()
    await asyncio.wait([running])
    if not running.cancelled() and (error := running.exception()):
        raise error
    await consumer.producer.stop()
    await client.close()
    await writer.close()
    return figures


# --- the report ---


def numbers(measured: Measured[dict[str, float]], rows: int) -> dict[str, float]:
    """The figures of one run for the table."""
    found = measured.result
    shown = {
        "rows/s": rows / found["seconds"],
        "CPU us/row": found["cpu_seconds"] / rows * 1e6,
        "peak MB": measured.peak_mb,
        "grown MB": measured.grown_mb,
    }
    return shown | ({"batches": found["batches"]} if "batches" in found else {})


async def tables(settings: Settings) -> int:
    """Create the tables of ``settings``; returns how many rows are stored."""
    from connectors.clickhouse.client.client import ClickHouseClient
    from connectors.clickhouse.schema.database import create_tables

    client = ClickHouseClient.from_settings(settings)
    try:
        await create_tables(client, settings)
        rows = await client.rows(f"SELECT count() FROM {settings.result_database}.logs_labeled")
    finally:
        await client.close()
    return int(rows[0][0])


def stored(settings: Settings, rows: int) -> None:
    """Raise unless the table holds ``rows``."""
    found = asyncio.run(tables(settings))
    if found != rows:
        raise AssertionError(f"{found} rows stored in {settings.result_database}, {rows} expected")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--runs", type=int, default=3, help="take the best of so many runs of each")
    chosen = parser.parse_args()
    best: dict[str, dict[str, float]] = {}
    with stack() as settings:
        size = measure(fill, settings, chosen.rows).result
        say(f"{chosen.rows} rows of {size:.0f} bytes are on Kafka")
        for number in range(chosen.runs):
            for name, function in (("columns", raw_columns), ("arrow", raw_arrow), ("sink", sink)):
                database = f"{name}{number}"
                here = settings.model_copy(update={"clickhouse_result_database": database})
                asyncio.run(tables(here))
                # The database's name is also the sink's group, so each run begins at the first message.
                found = numbers(measure(function, here, chosen.rows, database), chosen.rows)
                stored(here, chosen.rows)
                say(f"{name}: {found['rows/s']:,.0f} rows/s")
                if name not in best or found["rows/s"] > best[name]["rows/s"]:
                    best[name] = found
    ratios = {
        f"sink / {name}": best["sink"]["rows/s"] / best[name]["rows/s"] for name in ("columns", "arrow")
    }
    report(
        f"sink: {chosen.rows} rows, best of {chosen.runs}",
        list(best.items()),
        as_json=chosen.json,
        ratios=ratios,
    )


if __name__ == "__main__":
    main()
