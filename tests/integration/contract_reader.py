"""A subscriber who knows only `docs/contract/asyncapi.json`: does every message keep to it?

``python -m tests.integration.contract_reader --kafka HOST:PORT [--prefix esk] [--count 10000]``. It reads
with confluent-kafka and judges with jsonschema; nothing of labelstream's code takes part.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, TopicPartition
from jsonschema import Draft202012Validator

CONTRACT = Path(__file__).resolve().parents[2] / "docs" / "contract" / "asyncapi.json"
CHANNELS = ("rows", "replay", "labeled", "labeledShadow", "augmented", "deadLetter")


def judge(
    kafka: str, prefix: str, count: int, channels: Sequence[str] = CHANNELS
) -> dict[str, tuple[int, list[str]]]:
    """For each topic: how many of its messages (at most ``count``) were read, and what is wrong with them."""
    contract = json.loads(CONTRACT.read_text("utf-8"))
    found: dict[str, tuple[int, list[str]]] = {}
    for name in channels:
        topic = contract["channels"][name]["address"].replace("esk.", f"{prefix}.", 1)
        judges = [_judges(contract, message) for message in contract["channels"][name]["messages"].values()]
        read, wrong = 0, list[str]()
        for message in _messages(kafka, topic, count):
            read += 1
            complaints = [list(_complaints(message, *pair)) for pair in judges]
            if all(complaints):  # no kind of message fits
                wrong.append(f"{topic}/{message.partition()}/{message.offset()}: {complaints[0][0]}")
        found[topic] = (read, wrong)
    return found


def _judges(contract: dict[str, Any], message: dict[str, Any]) -> tuple[Any, Any]:
    while "$ref" in message:
        target: Any = contract
        for part in message["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        message = target
    payload, checker = message.get("payload"), Draft202012Validator.FORMAT_CHECKER
    if payload is not None and "schema" in payload:
        payload = payload["schema"]
    # A dead letter's value is any bytes.
    value = Draft202012Validator(payload, format_checker=checker) if payload and "$id" in payload else None
    return value, Draft202012Validator(message["headers"], format_checker=checker)


def _complaints(message: Any, value: Any, headers: Any) -> Iterator[str]:
    if value is not None:
        body = json.loads(message.value())
        yield from (error.message[:200] for error in value.iter_errors(body))
        if message.key().decode() != body["row_id"]:
            yield f"key {message.key()!r} is not row_id {body['row_id']!r}"
    given = {name: content.decode() for name, content in message.headers() or ()}
    yield from (f"headers: {error.message[:200]}" for error in headers.iter_errors(given))


def _messages(kafka: str, topic: str, count: int) -> Iterator[Any]:
    consumer = Consumer(
        {"bootstrap.servers": kafka, "group.id": "contract-reader", "enable.partition.eof": True,
         "enable.auto.commit": False}
    )  # fmt: skip
    try:
        partitions = consumer.list_topics(topic, 10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        ended = set[int]()
        while len(ended) < len(partitions) and count:
            message = consumer.poll(10)
            assert message is not None, f"{topic}: nothing for 10 s"
            if message.error() is None:
                count -= 1
                yield message
            elif message.error().code() == KafkaError._PARTITION_EOF:
                ended.add(message.partition())
            else:
                raise AssertionError(message.error())
    finally:
        consumer.close()


def main() -> None:
    """Judge, and say what was found; exit code 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.integration.contract_reader", description=__doc__)
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--prefix", default="esk")
    parser.add_argument("--count", type=int, default=10_000)
    given = parser.parse_args()
    found = judge(given.kafka, given.prefix, given.count)
    for topic, (read, wrong) in found.items():
        print(f"{topic}: {read} messages, {len(wrong)} wrong", *wrong[:5], sep="\n    ")
    sys.exit(1 if any(wrong for _, wrong in found.values()) else 0)


if __name__ == "__main__":
    main()
