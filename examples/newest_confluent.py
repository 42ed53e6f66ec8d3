"""Keep the newest label of each row, if a person gave it or the model was sure. Needs confluent-kafka."""

import json
import os
from datetime import datetime

from confluent_kafka import Consumer

LEAST = float(os.environ.get("MIN_CONFIDENCE", "0.8"))

newest: dict[tuple[str, str], tuple[bool, datetime, int]] = {}  # row -> how new its label is
by_proxy: dict[tuple[str, str], str] = {}  # rows with a label of the proxy -> its version
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
    identity = (row["row_id"], row["created_at"])
    # The model has labelled again what the proxy had: that counts, however sure it is.
    repaired = by_proxy.get(identity) == row["label_version"]
    if not (by_person or repaired) and (row["confidence"] is None or row["confidence"] < LEAST):
        continue
    # As a time: as texts a whole second would come after its parts. Of one moment the later message counts.
    newness = (by_person, datetime.fromisoformat(row["labeled_at"]), message.offset())
    if identity not in newest or newness > newest[identity]:
        newest[identity] = newness
        by_proxy.pop(identity, None)
        if row.get("decided_by") == "proxy":
            by_proxy[identity] = row["label_version"]
        confidence = "-" if row["confidence"] is None else row["confidence"]
        print(row["row_id"], row["label_version"], row["label"], confidence, sep="\t", flush=True)
