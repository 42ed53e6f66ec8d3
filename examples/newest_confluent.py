"""Keep the newest label of each row, if a person gave it or the model was sure. Needs confluent-kafka."""

import json
import os
from datetime import datetime

from confluent_kafka import Consumer

LEAST = float(os.environ.get("MIN_CONFIDENCE", "0.8"))

newest: dict[tuple[str, str], tuple[bool, datetime, int]] = {}  # row -> how new its label is
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
    by_person = row["label_version"] == "human"  # goes before the labels of models
    if not by_person and (row["confidence"] is None or row["confidence"] < LEAST):
        continue
    identity = (row["row_id"], row["created_at"])
    # As a time: as texts a whole second would come after its parts. Of one moment the later message counts.
    newness = (by_person, datetime.fromisoformat(row["labeled_at"]), message.offset())
    if identity not in newest or newness > newest[identity]:
        newest[identity] = newness
        confidence = "-" if row["confidence"] is None else row["confidence"]
        print(row["row_id"], row["label_version"], row["label"], confidence, sep="\t", flush=True)
