"""How fast is the poller, compared with a plain select and plain batches of the same rows?

``python -m bench.poller --rows 200000 [--json]``. The raw client streams the table by columns, makes JSON
with orjson and sends idempotent batches of aiokafka's `create_batch` with the same number of headers. It
cleans nothing, makes no ids and hashes no text. Its time is from the select to the last confirmation; the
poller's is from its first message (a page was read before it) to the last one.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from datetime import UTC, datetime
from typing import Any

from bench.harness import cpu_seconds, measure, options, report, say, stack
from bench.running import make_topics, role, stamps, watch, with_settings
from streams.core.settings import Settings
from streams.core.topics import Topics

_numbers = itertools.count()
_BATCH_BYTES = 900_000
_HEADERS = [
    ("message-type", b"row"),
    ("schema-version", b"1.0"),
    ("created-at", b"2026-03-01T00:00:00.037000+00:00"),
    ("source-row", b"1772323200037000/0123456789abcdef/0123456789abcdef"),
]


def make_source(settings: Settings, rows: int) -> None:
    """The source table with ``rows`` rows, a thousand a second up to an hour ago, with distinct texts."""
    asyncio.run(_made(settings, rows))


async def _made(settings: Settings, rows: int) -> None:
    from connectors.clickhouse.client.client import ClickHouseClient

    client = ClickHouseClient.from_settings(settings)
    table = f"{settings.clickhouse_database}.{settings.clickhouse_table}"
    try:
        await client.command(f"CREATE DATABASE IF NOT EXISTS {settings.clickhouse_database}")
        await client.command(
            f"CREATE TABLE {table} (id UInt64, query_text String, domain LowCardinality(String), "
            "created_at DateTime64(3, 'UTC'), user_id String, session_id String) "
            "ENGINE = MergeTree ORDER BY created_at"
        )
        await client.command(
            f"INSERT INTO {table} SELECT number, concat('подскажите, где мой заказ номер ', "
            "toString(number), ' и когда его привезут'), 'delivery', "
            f"now64(3) - INTERVAL 1 HOUR - toIntervalMillisecond({rows} - number), "
            "concat('u', toString(number % 5000)), concat('s', toString(number % 50000)) "
            f"FROM numbers({rows})"
        )
    finally:
        await client.close()


def raw(settings: Settings, topic: str) -> tuple[float, float]:
    """Select and send everything; seconds and CPU seconds."""
    import uvloop

    used: tuple[float, float] = uvloop.run(_raw(settings, topic))
    return used


async def _raw(settings: Settings, topic: str) -> tuple[float, float]:
    import clickhouse_connect
    import orjson
    from aiokafka import AIOKafkaProducer

    driver = clickhouse_connect.get_client(host=settings.clickhouse_host, port=settings.clickhouse_port)
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        enable_idempotence=True,
        compression_type="zstd",  # as labelstream's
        max_batch_size=_BATCH_BYTES,
        linger_ms=5,
    )
    await producer.start()
    began, cpu, partitions = time.perf_counter(), cpu_seconds(), settings.topic_partitions
    batches: dict[int, Any] = {}
    sent: list[Any] = []

    async def close(partition: int) -> None:
        batch = batches.pop(partition)
        batch.close()
        sent.append(await producer.send_batch(batch, topic, partition=partition))

    def put(partition: int, key: bytes, value: bytes) -> bool:
        batch = batches.get(partition)
        if batch is None:
            batch = batches[partition] = producer.create_batch()
        return batch.append(key=key, value=value, timestamp=None, headers=_HEADERS) is not None

    sql = (
        f"SELECT id, query_text, domain, created_at, user_id, session_id "
        f"FROM {settings.clickhouse_database}.{settings.clickhouse_table} ORDER BY created_at, id"
    )
    number, polled = 0, datetime.now(UTC)
    with driver.query_column_block_stream(sql) as blocks:
        for block in blocks:
            for id_, text, domain, created, user, session in zip(*block, strict=True):
                value = orjson.dumps(
                    {
                        "row_id": str(id_),
                        "text": text,
                        "created_at": created,
                        "user_id": user,
                        "session_id": session,
                        "source_domain": domain,
                        "polled_at": polled,
                    }
                )
                partition, number = number % partitions, number + 1
                if not put(partition, b"%d" % id_, value):
                    await close(partition)
                    put(partition, b"%d" % id_, value)
            await asyncio.sleep(0)
    for partition in list(batches):
        await close(partition)
    await asyncio.gather(*sent)
    used = time.perf_counter() - began, cpu_seconds() - cpu
    await producer.stop()
    driver.close()
    return used


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--runs", type=int, default=3, help="take the best of so many runs of each")
    chosen = parser.parse_args()
    rows = chosen.rows
    best: dict[str, dict[str, float]] = {}

    def keep(name: str, found: dict[str, float]) -> None:
        say(f"{name}: {found['rows/s']:,.0f} rows/s, {found['CPU us/row']:.1f} us")
        if name not in best or found["rows/s"] > best[name]["rows/s"]:
            best[name] = found

    with stack() as settings:
        make_source(settings, rows)
        for _ in range(chosen.runs):
            here = with_settings(settings, topic_prefix=f"poller{next(_numbers)}")
            make_topics(here)
            topic = Topics(here.topic_prefix).rows
            measured = measure(raw, here, topic)
            keep(
                "raw",
                {
                    "rows/s": rows / measured.result[0],
                    "CPU us/row": measured.result[1] / rows * 1e6,
                    "peak MB": measured.peak_mb,
                },
            )
            here = with_settings(settings, topic_prefix=f"poller{next(_numbers)}")
            make_topics(here)
            topic = Topics(here.topic_prefix).rows
            with role("poller", here, settings.labelstream_data / here.topic_prefix) as worker:
                seen = watch(here, topic, rows, [worker])
            sent = stamps(here, topic)
            keep(
                "poller",
                {
                    "rows/s": sum(at > sent[0] for at in sent) / (sent[-1] - sent[0]),
                    "CPU us/row": seen.cpu_between(rows // 4, 3 * rows // 4) / (rows // 2) * 1e6,
                    "peak MB": seen.peak / 1e6,
                },
            )
    ratios = {"poller / raw": best["poller"]["rows/s"] / best["raw"]["rows/s"]}
    report(
        f"poller: {rows} rows, best of {chosen.runs}", list(best.items()), as_json=chosen.json, ratios=ratios
    )


if __name__ == "__main__":
    main()
