"""Print each label as it comes: row id, label, confidence. The group remembers how far it has read."""

import asyncio
import json
import os

from aiokafka import AIOKafkaConsumer


async def main() -> None:
    servers = os.environ["KAFKA_BOOTSTRAP_SERVERS"]
    async with AIOKafkaConsumer(
        "esk.labeled", bootstrap_servers=servers, group_id="my-subscriber", auto_offset_reset="earliest"
    ) as consumer:
        async for message in consumer:
            row = json.loads(message.value)
            print(row["row_id"], row["label"], row["confidence"], sep="\t", flush=True)


asyncio.run(main())
