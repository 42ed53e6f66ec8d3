"""Kafka on this machine: the broker that clients see, and that nothing is lost when it is killed."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from connectors.local import processes
from connectors.local.jars import ensure_jars
from connectors.local.kafka import KafkaNode, KafkaStorageError, class_cache, kafka_answers
from connectors.local.processes import Child
from connectors.local.stack import LocalStack
from tests.kafka_tools import make_topic
from tests.stack import shared_jars
from tests.waiting import until


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    stack = LocalStack(tmp_path_factory.mktemp("kafka"), jars_dir=shared_jars())
    try:
        yield stack
    finally:
        stack.down()


def up(stack: LocalStack) -> str:
    address = stack.up(clickhouse=False, llm=False).kafka.address
    assert address
    return address


async def send(address: str, topic: str, values: list[bytes], acks: str = "all") -> None:
    producer = AIOKafkaProducer(bootstrap_servers=address, acks=acks)
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(topic, value, partition=0)
    finally:
        await producer.stop()


async def read(address: str, topic: str) -> list[bytes]:
    consumer = AIOKafkaConsumer(bootstrap_servers=address)
    await consumer.start()
    try:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        end = (await consumer.end_offsets([partition]))[partition]
        values: list[bytes] = []
        while len(values) < end:
            found = await consumer.getmany(partition, timeout_ms=1000)
            values += [record.value for records in found.values() for record in records]
        return values
    finally:
        await consumer.stop()


async def test_messages_survive_a_kill(stack: LocalStack) -> None:
    address = up(stack)
    await make_topic({"bootstrap_servers": address}, "kept")
    values = [b"%d" % number for number in range(200)]
    await send(address, "kept", values)
    before = stack.status().kafka
    assert before.pid
    child = Child.of(before.pid)
    child.signal(signal.SIGKILL)
    until(lambda: not child.alive)
    assert stack.status().kafka.state == "stopped"
    assert up(stack) == address
    assert stack.status().kafka.pid != before.pid
    assert await read(address, "kept") == values


async def test_messages_and_topics_survive_down_and_up(stack: LocalStack) -> None:
    address = up(stack)
    await make_topic({"bootstrap_servers": address}, "also-kept", 3)
    await send(address, "also-kept", [b"one"])
    stack.down()
    assert not kafka_answers(address)
    assert up(stack) == address
    await send(address, "also-kept", [b"two"])
    assert await read(address, "also-kept") == [b"one", b"two"]
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        (described,) = await admin.describe_topics(["also-kept"])
    finally:
        await admin.close()
    assert len(described["partitions"]) == 3


async def test_a_mistyped_topic_is_not_made(stack: LocalStack) -> None:
    address = up(stack)
    producer = AIOKafkaProducer(bootstrap_servers=address, request_timeout_ms=2000)
    await producer.start()
    try:
        with pytest.raises(KafkaError):
            await producer.send_and_wait("no-such-topic", b"x")
    finally:
        await producer.stop()


def test_it_listens_on_loopback_only(stack: LocalStack) -> None:
    up(stack)
    pid = stack.status().kafka.pid
    assert pid
    listening = [one.laddr.ip for one in psutil.Process(pid).net_connections("tcp") if one.status == "LISTEN"]
    assert listening
    assert {ip.removeprefix("::ffff:") for ip in listening} == {"127.0.0.1"}


def test_a_format_that_was_killed_is_done_again(tmp_path: Path) -> None:
    node = KafkaNode(
        tmp_path, sorted(shared_jars().glob("*.jar")), processes.free_port(), processes.free_port()
    )
    (tmp_path / "log.new").mkdir(parents=True)
    (tmp_path / "log.new" / "half").write_text("")
    node.prepare()
    assert (tmp_path / "log" / "meta.properties").is_file()
    assert not (tmp_path / "log.new").exists()
    identity = (tmp_path / "log" / "meta.properties").read_text()
    node.prepare()  # the second time it is kept
    assert (tmp_path / "log" / "meta.properties").read_text() == identity


def test_a_format_that_fails_says_why(tmp_path: Path) -> None:
    node = KafkaNode(tmp_path, [tmp_path / "missing.jar"], processes.free_port(), processes.free_port())
    with pytest.raises(KafkaStorageError, match="StorageTool"):
        node.prepare()


def test_a_class_cache_that_does_not_fit_is_passed_over(tmp_path: Path) -> None:
    jars = [tmp_path / jar.name for jar in ensure_jars(shared_jars())]
    for jar in jars:
        jar.symlink_to(shared_jars() / jar.name)
    class_cache(jars).write_bytes(b"of another Java")
    node = KafkaNode(tmp_path / "kafka", jars, processes.free_port(), processes.free_port())
    node.prepare()
    assert f"-XX:AOTCache={class_cache(jars)}" in node.command()
    done = subprocess.run([*node.command()[:-2], "-version"], capture_output=True, text=True, check=True)
    assert "warning" not in (done.stdout + done.stderr).lower()
