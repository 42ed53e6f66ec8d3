"""Thousands of personal data through kills and outages: ``python -m tests.integration.privacy.soak``.

They come in by the source table, a backfill, uploaded files, `/classify`, a fetch and a gold set. Roles,
masking processes, Kafka and ClickHouse are killed meanwhile, and the models are away. Fails if one is found
anywhere behind the source table and the uploaded files, or if a row is lost or doubled.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from connectors.local.processes import free_port
from tests.faults.world import World, as_program, world
from tests.fork_server import Forked
from tests.integration.file_service import Service, csv_of
from tests.integration.pipeline import Pipeline
from tests.integration.privacy import leaks
from tests.integration.privacy.search import Search
from tests.integration.privacy.secrets import Row, Secret, rows_of, secrets
from tests.waiting import PATIENCE, until

_ROLES = ("poller", "agents", "sink", "fetcher", "api")
_BATCH, _ASKED = 250, 50
# Rows with these words cannot be labelled; each so many are some.
_FAILS, _FAILING = "сломанная метка", 97
# The parts of the secrets that take each way.
_WAYS = {"table": 0.49, "hostile": 0.01, "history": 0.2, "files": 0.2, "asked": 0.1}


class Run:
    """One run; ``chance`` chooses its faults. ``places``: what was answered so far; ``wrong``: of rows."""

    def __init__(self, parts: World, flow: Pipeline, service: Service, chance: random.Random) -> None:
        self.places: list[tuple[str, bytes]] = []
        self.wrong: list[str] = []
        self.wanted = self.letters = 0
        self._parts = parts
        self._flow = flow
        self._service = service
        self._chance = chance
        self._roles: dict[str, Forked] = {}
        self._next = 1

    def begin(self) -> None:
        """All roles."""
        self._faults()
        for role in _ROLES:
            self._start(role)

    def _start(self, role: str) -> None:
        self._roles[role] = self._service.start() if role == "api" else self._flow.start(role)[0]

    def disturb(self) -> None:
        """One fault: a role, masking processes or a server killed, or the models away for a while."""
        what = self._chance.choice((*_ROLES, "workers", "workers", "models", "kafka", "clickhouse"))
        print(f"{time.strftime('%T')} {self._next - 1} source rows; {what}", flush=True)
        if what == "workers":
            leaks.kill_workers([self._roles[one] for one in ("poller", "api", "fetcher")])
        elif what == "models":
            self._faults({"kind": "status", "status": 503})
            time.sleep(3)
            self._faults()
        elif what in _ROLES:
            self._roles[what].kill()
            self._roles[what].wait()
            self._start(what)
        else:
            self._parts.kill(what)
            time.sleep(2)
            self._parts.start(what)

    def _faults(self, *given: dict[str, object]) -> None:
        url = self._flow.llm.removesuffix("/v1") + "/faults"
        faults = [*given, {"kind": "unknown_label", "match": _FAILS, "calls": "label"}]
        request = urllib.request.Request(url, json.dumps(faults).encode(), method="POST")
        urllib.request.urlopen(request, timeout=PATIENCE).close()

    def table(self, rows: Sequence[Row]) -> None:
        """Into the source table, a batch before each fault."""
        for at in range(0, len(rows), _BATCH):
            some = list(rows[at : at + _BATCH])
            failing = range(_FAILING - 2, len(some), _FAILING)
            for number in failing:
                some[number] = some[number]._replace(text=f"{_FAILS} {some[number].text}")
            timed = leaks.insert(self._flow, self._next, some)
            self._next += len(some)
            self.wanted += timed - len(failing)
            self.letters += len(some) - timed + len(failing)
            self.disturb()

    def hostile(self, rows: Sequence[Row]) -> None:
        """Into the source table, with bytes that are no UTF-8, and much longer than others."""
        values = []
        for at, row in enumerate(rows):
            text = row.text.encode() + (b" \xff\xfe\x00 ", " очень".encode() * 300)[at % 2]
            values.append(f"({self._next + at}, unhex('{text.hex()}'), 'заказы', now(), NULL, NULL)")
        client = self._flow.clickhouse()
        client.command(f"INSERT INTO {self._flow.database}.logs VALUES {', '.join(values)}")
        client.close()
        self._next += len(rows)
        self.wanted += len(rows)

    def history(self, rows: Sequence[Row]) -> None:
        """Into the source table too, but so old that only a backfill finds them."""
        self.wanted += leaks.insert(self._flow, self._next, rows, days_ago=3)
        self._next += len(rows)
        now = datetime.now(UTC)
        since, until_ = ((now - timedelta(days=days)).isoformat() for days in (4, 2))
        backfill = self._flow.begin("backfill", "--since", since, "--until", until_, log="backfill")
        self.disturb()
        until(lambda: backfill.poll() is not None, "the backfill ends", measure=self._measure)

    def files(self, rows: Sequence[Row]) -> None:
        """As uploads; in each the last row is broken: its time is personal."""
        jobs = []
        for at in range(0, len(rows), _BATCH):
            some = rows[at : at + _BATCH]
            lines = [
                [row.text, row.domain, "2026-03-01 12:00:00", row.user or row.session or ""] for row in some
            ]
            lines[-1][2] = some[-1].text
            told = self._asked("POST", "/upload", files={"file": (f"{some[0].text}.csv", csv_of(lines))})
            told = self._asked("POST", "/process", json={"file_id": told["file_id"], "accept": True})
            jobs.append(told["job_id"])
            self.wanted += len(some) - 1
            self.disturb()
        for job in jobs:
            self._done(job)
            path = f"/jobs/{job}/result?format=jsonl"
            self.places.append((path, self._service.client.get(path).content))

    def asked(self, texts: Sequence[str]) -> None:
        """By `/classify`, also while the models are away."""
        for at in range(0, len(texts), _ASKED):
            away = at // _ASKED % 4 == 3
            if away:
                self._faults({"kind": "status", "status": 503})
            try:
                asked = {"texts": texts[at : at + _ASKED]}
                answer = self._service.client.post("/classify", json=asked)
                self.places.append((f"/classify {answer.status_code}", answer.content))
            finally:
                if away:
                    self._faults()

    def gold(self, texts: Sequence[str], folder: Path) -> None:
        """As a gold set that names its rows by their texts."""
        path = folder / "given" / "gold.csv"
        path.parent.mkdir()
        path.write_text("text,label\n" + "".join(f'"{one}",payment\n' for one in texts), "utf-8")
        done = self._flow.command("gold", "import", str(path))
        self.places.append(("gold import", (done.stdout + done.stderr).encode()))

    def fetch(self) -> None:
        """All rows of the table again, of which none is new."""
        told = self._asked("POST", "/fetch-from-clickhouse")
        self._done(told["job_id"])

    def settled(self) -> None:
        """Until all rows are stored, each once."""
        flow = self._flow
        for table in ("logs_labeled", "logs_augmented"):
            flow.wait(lambda table=table: flow.count(table) >= self.wanted, f"{table} has {self.wanted}")  # type: ignore[misc]
        flow.wait(lambda: flow.count("dead_letters") >= self.letters, f"{self.letters} dead letters")
        self.wrong = self._lost_or_doubled()

    def _lost_or_doubled(self) -> list[str]:
        wrong = []
        for table in ("logs_labeled", "logs_augmented"):
            found = self._flow.rows(f"SELECT uniqExact(row_id), count() FROM {self._flow.database}.{table}")
            if found != [(self.wanted, self.wanted)]:
                wrong.append(f"{self.wanted} rows, and {table} has {found}")
        if (letters := self._flow.count("dead_letters")) != self.letters:
            wrong.append(f"{letters} dead letters, not {self.letters}")
        return wrong

    def _done(self, job: str) -> None:
        def state() -> bool:
            try:
                told = self._service.client.get(f"/jobs/{job}").json()
            except (httpx.TransportError, ValueError):
                return False
            if told.get("state") == "stopped":
                self._service.client.post(f"/jobs/{job}/resume")
            return bool(told.get("state") == "done")

        until(state, f"job {job} is done", measure=self._measure, pause=0.5)

    def _asked(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        """The answer, once the service gives one; what it answers before is kept too."""
        found: dict[str, Any] = {}

        def answered() -> bool:
            try:
                answer = self._service.client.request(method, path, **arguments)
            except httpx.TransportError:
                return False
            self.places.append((f"{path} {answer.status_code}", answer.content))
            found.update(answer.json())
            return answer.status_code == 200

        until(answered, lambda: f"{path}: {found}", pause=0.5)
        return found

    def _measure(self) -> list[int]:
        return [one.stat().st_size for one in sorted(self._flow.folder.glob("*.log"))]


def parted(made: Sequence[Secret]) -> dict[str, list[Secret]]:
    """The secrets of each way."""
    found, begin = {}, 0.0
    for way, share in _WAYS.items():
        found[way] = list(made[round(begin * len(made)) : round((begin + share) * len(made))])
        begin += share
    return found


def run(folder: Path, parts: World, count: int, seed: int) -> list[str]:
    """What went wrong."""
    made = secrets(count, seed)
    ways = parted(made)
    port = free_port()
    flow = Pipeline(
        parts.status,
        "leaks",
        folder,
        API_PORT=str(port),
        PRIVACY="mask",
        PRIVACY_SECRET=leaks.SECRET,
        LOG_FORMAT="json",
        LOG_LEVEL="debug",
        POLL_LOOKBACK_SECONDS="60",  # rows without a time are looked for more often
    )
    tap = leaks.Tap(flow.llm.removeprefix("http://").removesuffix("/v1"))
    tap.open()
    flow.environment |= dict.fromkeys(
        ("LLM_LABELER_API_BASE", "LLM_AUGMENTER_API_BASE"), f"http://127.0.0.1:{tap.port}/v1"
    )
    service = Service(flow, port)
    running = Run(parts, flow, service, random.Random(seed))
    steps: list[tuple[str, Callable[[], None]]] = [
        ("source table", lambda: running.table(rows_of(ways["table"]))),
        ("hostile rows", lambda: running.hostile(rows_of(ways["hostile"]))),
        ("backfill", lambda: running.history(rows_of(ways["history"]))),
        ("files", lambda: running.files(rows_of(ways["files"]))),
        ("classify", lambda: running.asked([one.text for one in ways["asked"]])),
        ("fetch", running.fetch),
        ("stored", running.settled),
        ("gold", lambda: running.gold([one.text for one in ways["table"][:_BATCH]], folder)),
    ]
    try:
        leaks.create(flow)
        running.begin()
        for name, step in steps:
            print(f"{time.strftime('%T')} {name}", flush=True)
            step()
        print(f"{time.strftime('%T')} looking", flush=True)
        places = running.places + asyncio.run(leaks.everything(flow))
        places += [*leaks.answers(service), *leaks.told_by_commands(flow)]
        places += [(f"model {at}", sent) for at, sent in enumerate(tap.sent)]
        found = Search(made, leaks.clean_texts()).found(places)
        size = sum(len(content) for _, content in places)
        print(
            f"{time.strftime('%T')} {len(places)} places, {size / 1e6:.0f} MB, {len(found)} found", flush=True
        )
        return running.wrong + found
    finally:
        service.client.close()
        flow.stop()
        tap.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--secrets", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    chosen = parser.parse_args()
    as_program()
    print(f"seed {chosen.seed}", flush=True)
    with tempfile.TemporaryDirectory() as name, world(Path(name) / "stack") as parts:
        problems = run(Path(name), parts, chosen.secrets, chosen.seed)
    print(*problems[:100], sep="\n")
    print(f"{chosen.secrets} secrets, {len(problems)} problems" if problems else "nothing was found")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
