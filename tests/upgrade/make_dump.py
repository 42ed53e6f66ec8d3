"""Make the dump of a release: ``python -m tests.upgrade.make_dump FOLDER``, with the release's code.

Runs the whole pipeline on a local stack of its own, with everything that leaves a trace in tables or topics,
and stops it with rows in flight between every two parts. Some two minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import yaml
from aiokafka import AIOKafkaProducer

from connectors.local.processes import free_port
from tests.integration.file_service import Service, csv_of
from tests.integration.pipeline import ROOT, Pipeline
from tests.integration.replaying import told
from tests.integration.test_dead_letters import faults
from tests.stack import stack_in
from tests.upgrade import dump

NAME = "esk010"  # occurs nowhere else, so that another name can take its place
TAXONOMY = ROOT / "taxonomy.yaml"
KEYS = {"anna": "the-key-of-anna", "boris": "the-key-of-boris"}
QUERIES = (
    "не приходит код подтверждения", "как вернуть деньги за заказ", "интернет отключается каждый вечер",
    "сколько стоит тариф безлимит", "позовите оператора", "где мой заказ, жду неделю", "курьер не приехал",
    "списали деньги дважды", "хочу сменить тариф", "приложение не открывается", "забыл пароль",
    "не могу оплатить картой", "отмените заказ", "нет сети в метро", "верните деньги", "спасибо, помогло",
    "пинг прыгает, играть невозможно", "пришёл не тот товар", "доставка опаздывает", "подключите роуминг",
    "how do I change my plan", "Bro, it doesn't work!!!", "код не приходит уже час 🙁", "СПИСАЛИ 500 РУБ?!",
)  # fmt: skip
UPLOAD = [
    ["не приходит смс с кодом", "auth", "2026-11-20T10:00:00Z", "u900"],
    ["верните мне деньги", "", "2026-11-20T10:00:01Z", "u901"],
    ["", "auth", "2026-11-20T10:00:02Z", "u902"],
    ["заказ приехал разбитым", "delivery", "2026-11-20T10:00:03Z", ""],
]


class Maker:
    """The pipeline that is dumped, and how far its source table is filled."""

    def __init__(self, flow: Pipeline, port: int) -> None:
        self.flow = flow
        self.service = Service(flow, port)
        self._next = 1

    def create(self) -> None:
        """The source table with every column, the topics, the result tables."""
        client = self.flow.clickhouse()
        client.command(f"CREATE DATABASE {NAME}")
        client.command(
            f"CREATE TABLE {NAME}.logs (id UInt64, query_text String, created_at DateTime64(3, 'UTC'), "
            "user_id Nullable(String), session_id Nullable(String), domain LowCardinality(Nullable(String))) "
            "ENGINE = MergeTree ORDER BY (created_at, id)"
        )
        client.close()
        made = self.flow.command("init")
        assert made.returncode == 0, made.stderr

    def insert(self, texts: Sequence[str]) -> list[str]:
        """Rows of now, each third one without a user, each fourth one without a domain; returns their ids."""
        now = datetime.now(UTC)
        rows = []
        for at, text in enumerate(texts):
            number = self._next + at
            user = None if number % 3 == 0 else f"u{number % 11}"
            domain = None if number % 4 == 0 else "support"
            rows.append([number, text, now + timedelta(milliseconds=at), user, f"s{number // 5}", domain])
        self._next += len(texts)
        client = self.flow.clickhouse()
        names = ["id", "query_text", "created_at", "user_id", "session_id", "domain"]
        client.insert("logs", rows, column_names=names, database=NAME)
        client.close()
        return [str(row[0]) for row in rows]

    def labeled(self, version: str) -> int:
        """How many rows the table has under it."""
        where = f"label_version = '{version}'"
        return int(self.flow.rows(f"SELECT count() FROM {NAME}.logs_labeled WHERE {where}")[0][0])

    def on_topic(self, topic: str) -> int:
        """How many messages a topic has."""
        return len(asyncio.run(self.flow.topic(topic)))

    def ended(self, process: Any) -> None:
        """Stop one role as an operator does."""
        process.terminate()
        assert process.wait(60) is not None

    async def poison(self) -> None:
        """Messages that are none of labelstream's."""
        producer = AIOKafkaProducer(bootstrap_servers=self.flow.kafka)
        await producer.start()
        await producer.send_and_wait(f"{NAME}.rows", b"\xff\x00poison", partition=1)
        await producer.send_and_wait(f"{NAME}.rows", None, key=b"tombstone", partition=2)
        await producer.stop()


def texts(mark: str, count: int) -> list[str]:
    """Queries, most of them different, some of them alike."""
    found = [f"{text} {mark}" if at % 6 else text for at, text in enumerate(QUERIES * 3)]
    return found[:count]


def first_rows(maker: Maker) -> None:
    """Rows with labels, variants, cached answers; skipped ones; dead letters of each kind, one retried."""
    flow = maker.flow
    client = flow.clickhouse()
    client.command(
        f"ALTER TABLE {NAME}.logs_labeled ADD CONSTRAINT no_such CHECK NOT startsWith(text, 'хранение')"
    )
    faults(
        flow,
        {"kind": "unknown_label", "match": "без метки", "calls": "label"},
        {"kind": "bad_answer", "match": "без вариантов", "calls": "augment"},
    )
    wrong = ["запрос без метки", "другой запрос без метки", "запрос без вариантов", "хранение не вышло"]
    maker.insert([*texts("сейчас", 36), *wrong, "я", "", "   "])
    asyncio.run(maker.poison())
    flow.wait(lambda: flow.count("dead_letters") == 6, "six dead letters")
    flow.wait(lambda: maker.labeled("v1") == 37, "the rows of v1 are stored")
    flow.wait(lambda: flow.count("logs_augmented") == 37, "their variants are stored")
    faults(flow)
    client.command(f"ALTER TABLE {NAME}.logs_labeled DROP CONSTRAINT no_such")
    client.close()
    assert told(flow, "dead-letters", "retry", "--reason", "invalid-answer", "--limit", "1")["retried"] == 1
    flow.wait(lambda: flow.count("logs_augmented") == 38, "the retried row is stored")


def people(maker: Maker) -> None:
    """Two people label: one corrects herself, both take a label back, one skips; a sign-in is refused.

    Each answer is stored before the next one, and without merges: the table has all of them.
    """
    with contextlib.closing(maker.flow.clickhouse()) as client:
        client.command(f"SYSTEM STOP MERGES {NAME}.logs_labeled")
    clients = {}
    for who, key in KEYS.items():
        clients[who] = httpx.Client(
            base_url=maker.service.base, timeout=60, headers={"X-API-Key": key, "X-Desk": f"desk-{who}"}
        )
    anna, boris = clients.values()

    def act(client: httpx.Client, what: str, **body: Any) -> None:
        before = maker.labeled("human")
        answer = client.post(f"/review/{what}", json=body)
        assert answer.status_code == 200, answer.text
        if what != "skip":
            maker.flow.wait(lambda: maker.labeled("human") == before + 1, f"the {what} is stored")

    hers = [row["key"] for row in anna.post("/review/claim", params={"want": 6}).json()["rows"]]
    his = [row["key"] for row in boris.post("/review/claim", params={"want": 4}).json()["rows"]]
    assert (len(hers), len(his)) == (6, 4)
    labels = [one["name"] for one in anna.get("/review").json()["choices"]]
    for at, key in enumerate(hers[:4]):
        act(anna, "label", key=key, label=labels[at])
    act(anna, "undo", key=hers[3])
    act(anna, "undo", key=hers[2])
    act(anna, "label", key=hers[2], label=labels[5])
    act(anna, "skip", key=hers[4])
    for at, key in enumerate(his[:2]):
        act(boris, "label", key=key, label=labels[at + 1])
    act(boris, "undo", key=his[1])
    refused = boris.post("/review/label", json={"key": hers[0], "label": labels[0]})
    assert refused.status_code == 409, refused.text
    assert httpx.post(f"{maker.service.base}/session", json={"key": "no-such-key"}).status_code == 403
    for client in clients.values():
        client.close()


def uploaded(maker: Maker) -> None:
    """A file of four records, one of them empty."""
    service = maker.service
    service.client.headers["X-API-Key"] = KEYS["anna"]
    found = service.upload(csv_of(UPLOAD))
    job = service.process(found["file_id"])
    service.done(job["job_id"])


def replayed(maker: Maker) -> None:
    """Version v2 of all rows, promoted; v3 of a few, on trial; v4 dropped again."""
    flow = maker.flow
    whole = yaml.safe_load(TAXONOMY.read_text("utf-8"))
    (flow.folder / "v2.yaml").write_text(
        yaml.safe_dump({**whole, "domains": whole["domains"][1:]}, allow_unicode=True), "utf-8"
    )
    taxonomy = ("--taxonomy", "v2.yaml")
    told(flow, "replay", "--from-topic", "--version", "v2", *taxonomy)
    told(flow, "versions", "promote", "v2")
    told(flow, "replay", "--from-table", "--version", "v3", *taxonomy, "--limit", "5", "--to", "labeled")
    told(flow, "replay", "--from-table", "--version", "v4", *taxonomy, "--limit", "3")
    job = next(one for one in told(flow, "replay", "list")["jobs"] if one["version"] == "v4")
    told(flow, "replay", "drop", job["id"])


def in_flight(maker: Maker, roles: dict[str, Any]) -> dict[str, list[str]]:
    """Stop one role after the other, with rows that it has not seen; returns their ids by role."""
    flow, waiting = maker.flow, {}
    maker.ended(roles["sink"])
    before = maker.on_topic("augmented")
    waiting["sink"] = maker.insert(texts("не сохранено", 5))
    flow.wait(lambda: maker.on_topic("augmented") == before + 5, "rows wait for the sink")
    maker.ended(roles["agents"])
    before = maker.on_topic("rows")
    waiting["agents"] = maker.insert(texts("не размечено", 5))
    flow.wait(lambda: maker.on_topic("rows") == before + 5, "rows wait for the agents")
    maker.ended(roles["poller"])
    waiting["poller"] = maker.insert(texts("не прочитано", 5))
    return waiting


def make(folder: Path, where: Path) -> None:
    """Run it all in ``where``, and write the dump into ``folder``."""
    port = free_port()
    settings = {
        "LABEL_VERSION": "v1",
        "API_PORT": str(port),
        "API_KEYS": ",".join(f"{who}:write:{key}" for who, key in KEYS.items()),
        "AUGMENT_VARIANTS": "2",
        "POLL_INTERVAL_SECONDS": "0.3",
    }
    with stack_in(where / "stack", llm=True, taxonomy=TAXONOMY) as stack:
        flow = Pipeline(stack, NAME, where, **settings)
        maker = Maker(flow, port)
        try:
            maker.create()
            names = ("poller", "agents", "sink")
            roles = dict(zip(names, flow.start(*names), strict=True))
            maker.service.client.headers["X-API-Key"] = KEYS["anna"]
            api = maker.service.start()
            first_rows(maker)
            uploaded(maker)
            replayed(maker)
            people(maker)  # from here on the table's merges, and so its mutations, are stopped
            # From here on live rows have the promoted version.
            maker.ended(roles["agents"])
            v2 = {"LABEL_VERSION": "v2", "TAXONOMY_PATH": str(where / "v2.yaml")}
            (roles["agents"],) = flow.start("agents", **v2)
            before = maker.labeled("v2")
            maker.insert(texts("после v2", 6))
            flow.wait(lambda: maker.labeled("v2") == before + 6, "live rows under v2 are stored")
            maker.ended(api)
            waiting = in_flight(maker, roles)
        finally:
            flow.stop()
            maker.service.client.close()
        note = {
            "release": version("labelstream"),
            "settings": {"LABEL_VERSION": "v2", "AUGMENT_VARIANTS": "2", "TOPIC_PARTITIONS": "4"},
            "waiting": waiting,  # ids of rows in flight, by the role that they wait for
        }
        found = asyncio.run(dump.read(flow.kafka, flow.clickhouse_port, NAME, note))
    dump.write(found, folder)
    (folder / "taxonomy.yaml").write_bytes((where / "v2.yaml").read_bytes())
    counts = {table.name: len(table.rows) for table in found.tables}
    counts |= {topic: len(messages) for topic, messages in found.messages.items()}
    print(json.dumps(counts, indent=1))


def main() -> None:
    """Parse the arguments and make it."""
    parser = argparse.ArgumentParser(prog="python -m tests.upgrade.make_dump", description=__doc__)
    parser.add_argument("folder", type=Path, help="such as tests/data/0.1.0")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="labelstream-dump-") as name:
        make(chosen.folder, Path(name))


if __name__ == "__main__":
    main()
