"""A pipeline on brokers with access lists: each role has a user of its own, with its rights and no more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx

from connectors.kafka.rights.declared import COMMANDS, INIT, READ, WRITE, Right, rights_of
from connectors.local.processes import free_port
from connectors.local.stack import StackStatus
from streams.core.topics import Topics
from tests.fork_server import Forked
from tests.integration.pipeline import Pipeline
from tests.integration.test_dead_letters import faults
from tests.security.access_lists import AccessLists
from tests.security.parts import SECRET, Certificates
from tests.waiting import PATIENCE

ROLES = ("poller", "agents", "sink", "api", "fetcher")
USERS = (*ROLES, COMMANDS, INIT)


@dataclass(frozen=True)
class Cluster:
    """Addresses of brokers: for clients by SASL_SSL, and where everybody may do everything."""

    address: str
    internal: str
    logs: tuple[Path, ...]

    def refused(self, prefix: str) -> list[str]:
        """What users were refused of the topics and groups with ``prefix``, in the brokers' words."""
        return [
            line
            for log in self.logs
            for line in log.read_text("utf-8", "replace").splitlines()
            if "is Denied operation" in line and f":{prefix}" in line
        ]


class Secured(Pipeline):
    """A pipeline on such a ``cluster``, with the other parts of ``stack``."""

    def __init__(
        self, cluster: Cluster, stack: StackStatus, certificates: Certificates, name: str, folder: Path
    ) -> None:
        parts: Any = SimpleNamespace(
            kafka=SimpleNamespace(address=cluster.address), clickhouse=stack.clickhouse, llm=stack.llm
        )
        self.port = free_port()
        super().__init__(
            parts,
            name,
            folder,
            KAFKA_SECURITY_PROTOCOL="SASL_SSL",
            KAFKA_SASL_USERNAME=COMMANDS,
            KAFKA_SASL_PASSWORD=SECRET,
            KAFKA_SSL_CAFILE=str(certificates.ca),
            API_PORT=str(self.port),
            API_KEYS=f"people:write:{SECRET}",
            POLL_INTERVAL_SECONDS="0.2",
        )
        self.cluster = cluster
        self.kafka = cluster.internal  # for those who look
        self._roles: dict[str, Forked] = {}

    def start_all(self) -> None:
        for role in ROLES:
            (self._roles[role],) = self.start(role, KAFKA_SASL_USERNAME=role)

    def start_ended(self, role: str) -> None:
        """Start a role that has ended, as a supervisor does; one that goes on is left alone."""
        if self._roles[role].poll() is not None:
            (self._roles[role],) = self.start(role, KAFKA_SASL_USERNAME=role)

    def told(self, *words: str, user: str = COMMANDS) -> dict[str, Any]:
        done = self.command(*words, "--json", KAFKA_SASL_USERNAME=user)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}{self.cluster.refused(self.prefix)}"
        found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return found

    def insert(self, first: int, *texts: str) -> None:
        client, now = self.clickhouse(), datetime.now(UTC)
        client.insert(
            "logs",
            [[first + number, text, now, 1 + number] for number, text in enumerate(texts)],
            column_names=["id", "query_text", "created_at", "user_id"],
            database=self.database,
        )
        client.close()


def work_through(flow: Secured, *, rows: int = 12, thorough: bool = False) -> None:
    """What people do with it, each role and command as a user of its own. ``thorough``: also with roles that
    start again, files and an erasure.
    """
    lists, mark = AccessLists(flow.cluster.internal), flow.prefix
    for user, rights in rights_of(Topics(flow.prefix)).items():
        lists.allow(user, rights)
    client = flow.clickhouse()
    client.command(f"CREATE DATABASE {flow.database}")
    client.command(
        f"CREATE TABLE {flow.database}.logs (id UInt64, query_text String, created_at DateTime, "
        "user_id UInt64) ENGINE = MergeTree ORDER BY id"
    )
    client.close()
    made = flow.told("init", user=INIT)
    assert len(made["topics"]) == len(Topics(flow.prefix).all())
    assert flow.told("init", user=INIT)["topics"] == []

    faults(
        flow,
        {"kind": "unknown_label", "match": f"метка {mark}", "calls": "label"},
        {"kind": "bad_answer", "match": f"варианты {mark}", "calls": "augment"},
    )
    plain = [f"запрос {mark} {number}" for number in range(rows - 2)]
    flow.insert(1, *plain, f"метка {mark}", f"варианты {mark}")
    flow.start_all()
    flow.wait(lambda: flow.count("dead_letters") == 2, "two dead letters")
    flow.wait_for_variants(rows - 2, "all others with variants")
    faults(flow)
    assert len(flow.told("dead-letters", "list")["dead_letters"]) == 2
    assert flow.told("dead-letters", "retry")["retried"] == 2
    flow.wait_for_variants(rows, "all with variants")

    if thorough:  # the new processes have to learn what the former ones did
        flow.stop()
        flow.insert(rows + 1, f"ещё {mark} 1", f"ещё {mark} 2")
        rows += 2
        flow.start_all()
        flow.wait_for_variants(rows, "the new rows, too")

    assert flow.told("replay", "--from-topic", "--version", "second")["state"] == "done"
    flow.wait(lambda: flow.count("logs_labeled") == 2 * rows, "all rows in a second version")
    flow.told("versions", "promote", "second", "--force")
    assert flow.told("status")["groups"][f"{flow.prefix}-agents"] == 1
    review(flow)
    if thorough:
        upload(flow, f"файл {mark}")
        done = flow.command("erase", "--user", "1", "--json")
        # Exit code 1: something is left for a person to do, such as files that are open yet.
        assert json.loads(done.stdout.splitlines()[-1])["gone"]["review topic"] > 0, done.stderr
    assert flow.cluster.refused(flow.prefix) == []
    if thorough:
        lose_rights(flow)
    flow.stop()


def lose_rights(flow: Secured) -> None:
    """Rights are taken away from roles that work, and given back: the log names them, and no row is lost."""
    lists, before = AccessLists(flow.cluster.internal), flow.count("logs_labeled")
    taken = {
        "agents": [
            Right("topic", f"{flow.prefix}.labeled", WRITE),
            Right("group", f"{flow.prefix}-agents", READ),
        ],
        "poller": [Right("topic", f"{flow.prefix}.rows", WRITE)],
        "sink": [Right("topic", f"{flow.prefix}.labeled", READ)],
    }
    for number, (role, rights) in enumerate(taken.items(), 1):
        said = flow.log(role).count("Kafka refuses access")
        lists.refuse(role, rights)
        flow.insert(9000 + number, f"права {flow.prefix} {number}")

        def told(role: str = role, said: int = said) -> bool:
            return flow.log(role).count("Kafka refuses access") > said

        flow.wait(told, f"{role} says what it may not do")
        lists.allow(role, rights)
        named = [line for line in flow.log(role).splitlines() if "Kafka refuses access" in line]
        assert any(right.name in line for line in named for right in rights), named
        flow.start_ended(role)
        flow.wait(lambda n=before + number: flow.count("logs_labeled") == n, f"{role} goes on")  # type: ignore[misc]


def review(flow: Secured) -> None:
    """A person labels a row, and takes it back."""
    with _http(flow) as api:
        flow.wait(lambda: _up(api), "the API answers")
        (row,) = api.post("/review/claim", params={"want": 1}).json()["rows"]
        label = api.get("/review").json()["choices"][0]["name"]
        said = api.post("/review/label", json={"key": row["key"], "label": label})
        assert said.status_code == 200, said.text
        said = api.post("/review/undo", json={"key": row["key"]})
        assert said.status_code == 200, said.text


def upload(flow: Secured, text: str) -> None:
    """A file is labelled."""
    with _http(flow) as api:
        file = f"id,query_text,created_at\n1,{text},2026-01-01 00:00:00\n".encode()
        found = api.post("/upload", files={"file": ("logs.csv", file)}).json()
        job = api.post("/process", json={"file_id": found["file_id"]}).json()
        flow.wait(lambda: api.get(f"/jobs/{job['job_id']}").json()["state"] == "done", "the file is done")


@contextmanager
def _http(flow: Secured) -> Iterator[httpx.Client]:
    headers = {"X-API-Key": SECRET, "X-Desk": "desk"}
    with httpx.Client(base_url=f"http://127.0.0.1:{flow.port}", headers=headers, timeout=PATIENCE) as client:
        yield client


def _up(api: httpx.Client) -> bool:
    try:
        return api.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False
