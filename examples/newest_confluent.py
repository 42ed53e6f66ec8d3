"""Keep the newest label of each row, if the model was sure of it. Needs confluent-kafka."""

import json
import os

from confluent_kafka import Consumer

LEAST = float(os.environ.get("MIN_CONFIDENCE", "0.8"))

newest: dict[tuple[str, str], str] = {}  # row -> when its label was decided
consumer = Consumer(
    {
        "bootstrap.servers": os.environ["KAFKA_BOOTSTRAP_SERVERS"],
        "group.id": "newest-labels",
        "auto.offset.reset": "earliest",
    }
)
consumer.subscribe([os.environ.get("TOPIC", "esk.labeled")])
while True:
    message = consumer.poll(1.0)
    if message is None:
        continue
    if message.error() is not None:
        if message.error().fatal():
            raise SystemExit(str(message.error()))
        continue  # the client goes on by itself
    row = json.loads(message.value())
    if row["confidence"] is None or row["confidence"] < LEAST:
        continue
    identity = (row["row_id"], row["created_at"])
    if row["labeled_at"] > newest.get(identity, ""):
        newest[identity] = row["labeled_at"]
        print(row["row_id"], row["label_version"], row["label"], row["confidence"], sep="\t", flush=True)
