"""Keep the newest label of each row, if a person gave it or the model was sure of it. Needs aiokafka[zstd].

A row that is labelled again takes the place of its former label; a person's label goes before those of
models. Of two labels of one moment the later message counts: all messages about a row are in one partition.
What was read before is read again after a crash of this program, and changes nothing: keep your table in the
same way.
"""

import asyncio
import json
import os
from datetime import datetime

from aiokafka import AIOKafkaConsumer

LEAST = float(os.environ.get("MIN_CONFIDENCE", "0.8"))


async def main() -> None:
    newest: dict[tuple[str, str], tuple[bool, datetime, int]] = {}  # row -> how new its label is
    by_proxy: dict[tuple[str, str], str] = {}  # rows with a label of the proxy -> its version
    async with AIOKafkaConsumer(
        os.environ.get("TOPIC", "esk.labeled"),
        bootstrap_servers=os.environ["KAFKA_BOOTSTRAP_SERVERS"],
        group_id="newest-labels",
        auto_offset_reset="earliest",
    ) as consumer:
        async for message in consumer:
            row = json.loads(message.value)
            by_person = row["label_version"] == "human"
            # With its time: a source table that is made anew may begin its ids anew.
            identity = (row["row_id"], row["created_at"])
            # The model has labelled again what the proxy had: that counts, however sure it is.
            repaired = by_proxy.get(identity) == row["label_version"]
            # The confidence is null where the endpoint tells none.
            if not (by_person or repaired) and (row["confidence"] is None or row["confidence"] < LEAST):
                continue
            # As times: as texts a whole second would come after its parts.
            moment = datetime.fromisoformat(row["labeled_at"])
            newness = (by_person, moment, message.offset)
            if identity not in newest or newness > newest[identity]:
                newest[identity] = newness
                by_proxy.pop(identity, None)
                if row.get("decided_by") == "proxy":
                    by_proxy[identity] = row["label_version"]
                confidence = "-" if row["confidence"] is None else row["confidence"]
                print(row["row_id"], row["label_version"], row["label"], confidence, sep="\t", flush=True)


asyncio.run(main())
