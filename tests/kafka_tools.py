"""What an operator does by hand with Kafka's own tools, here through plain aiokafka."""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.structs import OffsetAndMetadata

from tests.waiting import eventually


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
        await admin.delete_topics([topic])

        async def made() -> bool:
            response = await admin.create_topics([NewTopic(topic, len(described["partitions"]), 1)])
            return bool(response.topic_errors[0][1] == 0)

        await eventually(made, f"{topic} is made again", pause=0.2)
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
