"""What an operator does by hand with Kafka's own tools, here through plain aiokafka."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.structs import OffsetAndMetadata

from tests.waiting import eventually


async def make_topic(
    arguments: dict[str, Any], name: str, partitions: int = 1, config: Mapping[str, str] | None = None
) -> None:
    """Make a topic, and return when it can be written to, with these settings."""
    admin = AIOKafkaAdminClient(**arguments)
    await admin.start()
    try:
        response = await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=config)])
        assert response.topic_errors[0][1] == 0, response
        await known(admin, name, partitions, config)
    finally:
        await admin.close()


async def known(
    admin: AIOKafkaAdminClient, name: str, partitions: int, config: Mapping[str, str] | None = None
) -> None:
    """Wait until the broker has what its controller has noted, which it hears of later on a busy machine."""
    wanted = config or {}
    resource = ConfigResource(ConfigResourceType.TOPIC, name, dict.fromkeys(wanted))

    async def same() -> bool:
        (described,) = await admin.describe_topics([name])
        led = [one for one in described["partitions"] if one["leader"] >= 0]
        if described["error_code"] or len(led) != partitions:
            return False
        if not wanted:
            return True
        (answer,) = await admin.describe_configs([resource])
        ((code, *_, entries),) = answer.resources
        found = {entry[0]: entry[1] for entry in entries}
        return not code and found.items() >= wanted.items()

    await eventually(same, f"the broker knows {name}")


async def reset_offsets(kafka: str, group: str) -> None:
    """`kafka-consumer-groups --reset-offsets --to-earliest --all-topics`, the group being stopped."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        places = list(await admin.list_consumer_group_offsets(group))
    finally:
        await admin.close()
    assert places
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign(places)
        first = await consumer.beginning_offsets(places)
        await consumer.commit({place: OffsetAndMetadata(first[place], "") for place in places})
    finally:
        await consumer.stop()


async def last_values(kafka: str, topic: str) -> dict[str, bytes | None]:
    """The last value of each key of a compacted topic of one partition; None after a tombstone."""
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, group_id=None, enable_auto_commit=False)
    await consumer.start()
    try:
        place = TopicPartition(topic, 0)
        consumer.assign([place])
        await consumer.seek_to_beginning(place)
        end = (await consumer.end_offsets([place]))[place]
        found: dict[str, bytes | None] = {}
        while await consumer.position(place) < end:
            for message in (await consumer.getmany(place, timeout_ms=200)).get(place, []):
                found[(message.key or b"").decode()] = message.value
        return found
    finally:
        await consumer.stop()


async def recreate(kafka: str, topic: str) -> None:
    """Delete a topic and make it again, with as many partitions."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        (described,) = await admin.describe_topics([topic])
        partitions = len(described["partitions"])
        await admin.delete_topics([topic])

        async def made() -> bool:
            response = await admin.create_topics([NewTopic(topic, partitions, 1)])
            return bool(response.topic_errors[0][1] == 0)

        await eventually(made, f"{topic} is made again", pause=0.2)
        await known(admin, topic, partitions)
    finally:
        await admin.close()


async def truncate(kafka: str, topic: str, before: dict[int, int]) -> None:
    """`kafka-delete-records`: what retention does, at once."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.delete_records(
            {
                TopicPartition(topic, number): RecordsToDelete(before_offset=offset)
                for number, offset in before.items()
            }
        )
    finally:
        await admin.close()
