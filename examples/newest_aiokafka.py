"""Keep the newest label of each row, if the model was sure of it. Needs aiokafka.

A row that is labelled again, under another version, takes the place of its former label. What was read
before is read again after a crash of this program, and changes nothing: keep your table in the same way.
"""

import asyncio
import json
import os

from aiokafka import AIOKafkaConsumer

LEAST = float(os.environ.get("MIN_CONFIDENCE", "0.8"))


async def main() -> None:
    newest: dict[tuple[str, str], str] = {}  # row -> when its label was decided
    async with AIOKafkaConsumer(
        os.environ.get("TOPIC", "esk.labeled"),
        bootstrap_servers=os.environ["KAFKA_BOOTSTRAP_SERVERS"],
        group_id="newest-labels",
        auto_offset_reset="earliest",
    ) as consumer:
        async for message in consumer:
            row = json.loads(message.value)
            # The confidence is null where the endpoint tells none.
            if row["confidence"] is None or row["confidence"] < LEAST:
                continue
            # With its time: a source table that is made anew may begin its ids anew.
            identity = (row["row_id"], row["created_at"])
            if row["labeled_at"] > newest.get(identity, ""):
                newest[identity] = row["labeled_at"]
                print(
                    row["row_id"], row["label_version"], row["label"], row["confidence"], sep="\t", flush=True
                )


asyncio.run(main())
