"""The roles as processes of their own, rows for them, and measurements while they run.

::

    fill_rows(settings, texts)                             # on esk.rows, as the poller would put them
    with role("agents", settings, folder) as worker:       # `labelstream run agents`
        figures = watched_run(settings, [worker], rows)    # steady rows/s, CPU ms a row, peak memory
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from pydantic import SecretStr

from bench.harness import measure, say
from streams.core.settings import Settings
from streams.core.topics import Topics, partition_of

_ROOT = Path(__file__).resolve().parents[1]
_LOOK_SECONDS = 0.1
_LONGEST = 300.0


def environment(settings: Settings) -> dict[str, str]:
    """The environment to run a process with ``settings``; of our own only what differs from the defaults."""
    kept = {name: value for name, value in os.environ.items() if name.lower() not in Settings.model_fields}
    for name in settings.model_fields_set:
        value = getattr(settings, name)
        if value is not None:
            secret = isinstance(value, SecretStr)
            kept[name.upper()] = value.get_secret_value() if secret else str(value)
    kept["PYTHONPATH"] = str(_ROOT)
    kept["TAXONOMY_PATH"] = str(_ROOT / "taxonomy.yaml")
    return kept


def with_settings(settings: Settings, **changes: Any) -> Settings:
    """The same with ``changes``, which then count as explicitly set."""
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    return Settings(**(given | changes))


@contextlib.contextmanager
def role(
    name: str, settings: Settings, folder: Path, command: Sequence[str] = ()
) -> Iterator[psutil.Process]:
    """`labelstream run NAME`, or ``command`` in its place; its output goes to ``folder``. A killed process is
    no error.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [*command] or [sys.executable, "-m", "streams.cli", "run", name],
            env=environment(settings),
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    try:
        yield psutil.Process(process.pid)
    except TimeoutError:
        say((folder / f"{name}.log").read_text("utf-8", "replace")[-2000:])
        raise
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


def make_topics(settings: Settings) -> None:
    """Create the topics of ``settings``, as `labelstream init` does."""
    from connectors.kafka.admin import Admin
    from connectors.kafka.connection import connection

    asyncio.run(Admin(connection(settings)).create_topics(settings))


def fill_rows(settings: Settings, texts: Sequence[str], topic: str = "rows", first: int = 0) -> None:
    """Publish a row for each text, in a process of its own; ids count from ``first``."""
    measure(_fill, settings, list(texts), topic, first)


def _fill(settings: Settings, texts: list[str], topic: str, first: int) -> None:
    asyncio.run(_filled(settings, texts, topic, first))


async def _filled(settings: Settings, texts: list[str], topic: str, first: int) -> None:
    from connectors.kafka.connection import connection
    from connectors.kafka.producer import LeasedProducer
    from streams.core.codec import encode, headers_of
    from streams.core.messages import Row
    from streams.core.records import Outgoing

    where = getattr(Topics(settings.topic_prefix), topic)
    producer = LeasedProducer(connection(settings))
    await producer.start()
    for begin in range(0, len(texts), 10_000):
        outgoing = []
        for number, text in enumerate(texts[begin : begin + 10_000], begin + first):
            now = datetime.now(UTC)
            row = Row(
                row_id=str(number), text=text, created_at=now, polled_at=now, user_id=f"u{number % 500}",
                session_id=f"s{number % 5000}",
            )  # fmt: skip
            partition = partition_of(text, settings.topic_partitions)
            outgoing.append(Outgoing(where, partition, row.row_id.encode(), encode(row), headers_of(row)))
        await producer.send_many(outgoing)
    await producer.stop()


def distinct_texts(count: int) -> list[str]:
    """Queries without duplicates."""
    return [
        f"подскажите, пожалуйста, где мой заказ номер {number} и когда его привезут"
        for number in range(count)
    ]


@dataclass
class Samples:
    """Samples while processes run: times, messages on the topic, CPU seconds and resident bytes."""

    at: list[float] = field(default_factory=list)
    count: list[int] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    peak: int = 0

    def cpu_between(self, first: int, last: int) -> float:
        """CPU seconds from the ``first`` to the ``last`` message."""
        return float(np.interp(last, self.count, self.cpu) - np.interp(first, self.count, self.cpu))


def watch(
    settings: Settings, topic: str, until: int, processes: Sequence[psutil.Process], longest: float = _LONGEST
) -> Samples:
    """Sample ``topic`` and the processes until the topic holds ``until`` messages.

    Raises:
        TimeoutError: it takes longer than ``longest`` seconds, or no process is left.
    """
    return asyncio.run(_watch(settings, topic, until, processes, longest))


async def _watch(
    settings: Settings, topic: str, until: int, processes: Sequence[psutil.Process], longest: float
) -> Samples:
    from aiokafka import AIOKafkaConsumer, TopicPartition

    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka_bootstrap_servers)
    await consumer.start()
    places = [TopicPartition(topic, number) for number in range(settings.topic_partitions)]
    samples, began = Samples(), time.monotonic()
    try:
        while True:
            count = sum((await consumer.end_offsets(places)).values())
            samples.at.append(time.monotonic())
            samples.count.append(count)
            samples.cpu.append(sum(_cpu(process) for process in processes))
            samples.peak = max(samples.peak, *(_resident(process) for process in processes), 0)
            if count >= until:
                return samples
            if processes and not any(_runs(process) for process in processes):
                raise TimeoutError(f"{topic} holds {count} of {until} messages, and nobody works any more")
            if time.monotonic() - began > longest:
                raise TimeoutError(f"{topic} holds {count} of {until} messages after {longest:.0f} s")
            await asyncio.sleep(_LOOK_SECONDS)
    finally:
        await consumer.stop()


def stamps(settings: Settings, topic: str) -> list[float]:
    """The times when the messages of ``topic`` were passed to the producer, in seconds, in order."""
    return sorted(record.timestamp / 1000 for record in records(settings, topic))


def records(settings: Settings, topic: str) -> list[Any]:
    """Every message of ``topic``."""
    return asyncio.run(_records(settings, topic))


async def _records(settings: Settings, topic: str) -> list[Any]:
    from connectors.kafka.connection import connection
    from connectors.kafka.tail import TailReader
    from streams.core.records import Partition

    found: list[Any] = []
    starts = {Partition(topic, number): 0 for number in range(settings.topic_partitions)}
    async for some in TailReader(connection(settings)).read_many(starts):
        found += some
    return found


def steady_rate(at: Iterable[float]) -> float:
    """Rows a second between the first and the last quarter, as the slope of a line fitted to them. Answers
    that come in waves affect it less than the time between two of them.
    """
    moments = np.sort(np.array(list(at)))
    middle = moments[len(moments) // 4 : 3 * len(moments) // 4]
    return float(np.polyfit(middle - middle[0], np.arange(len(middle)), 1)[0])


def watched_run(
    settings: Settings, processes: Sequence[psutil.Process], rows: int, topic: str = "labeled"
) -> dict[str, float]:
    """Wait until ``topic`` has ``rows`` messages; the figures of the steady half."""
    name = getattr(Topics(settings.topic_prefix), topic)
    samples = watch(settings, name, rows, processes)
    used = samples.cpu_between(rows // 4, 3 * rows // 4)
    return {
        "rows/s": steady_rate(stamps(settings, name)),
        "CPU ms/row": used / (rows // 2) * 1000,
        "peak MB": samples.peak / 1e6,
    }


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _cpu(process: psutil.Process) -> float:
    try:
        used = process.cpu_times()
    except psutil.Error:
        return 0.0
    return used.user + used.system


def _resident(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0
