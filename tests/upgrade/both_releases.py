"""Both releases' roles at once: ``python -m tests.upgrade.both_releases``, as `make soak-upgrade` runs it.

The stored dump of 0.1.0 with more rows, the roles of 0.1.0 from the repository's history, and rows that come
all the time. Then today's `init`, today's roles beside the old ones, and the old ones end. Exit code 1 if a
row is lost, or is there twice. Without the history of the release nothing is run.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from connectors.local import processes
from connectors.local.processes import Child
from tests.faults.world import as_program
from tests.integration.pipeline import ROOT, Pipeline
from tests.stack import stack_in
from tests.upgrade import dump

RELEASE = "0.1.0"
# In the order in which the guide says to start today's.
ROLES = ("sink", "agents", "poller")
TABLES = ("logs_labeled", "logs_augmented")
_FIRST = 1000
_PAUSE = 0.25


class History(Exception):
    """The release's code is not in this clone."""


@contextmanager
def checked_out(release: str, folder: Path) -> Iterator[Path]:
    """The code of ``release`` in ``folder``.

    Raises:
        History: a shallow clone, or no repository.
    """

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise History(done.stderr.strip())
        return done.stdout

    # Where its heading in the changelog comes from.
    commits = git("log", "--format=%H", f"-S## [{release}]", "--", "CHANGELOG.md").split()
    if not commits:
        raise History(f"no commit of this clone opens {release} in CHANGELOG.md")
    git("worktree", "add", "--detach", str(folder), commits[-1])
    try:
        yield folder
    finally:
        git("worktree", "remove", "--force", str(folder))


class Traffic:
    """Rows that come to the source table until it is stopped."""

    def __init__(self, flow: Pipeline) -> None:
        self.ids: list[str] = []
        self._flow = flow
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        client = self._flow.clickhouse()
        names = ["id", "query_text", "created_at", "user_id", "session_id", "domain"]
        while not self._stop.wait(_PAUSE):
            rows = [
                [number, f"запрос номер {number}", datetime.now(UTC), f"u{number % 11}", "s", "support"]
                for number in range(_FIRST + len(self.ids), _FIRST + len(self.ids) + 3)
            ]
            client.insert("logs", rows, column_names=names, database=self._flow.database)
            self.ids += [str(row[0]) for row in rows]
        client.close()


class OldRoles:
    """Processes of the release in ``code``, over the same pipeline."""

    def __init__(self, flow: Pipeline, code: Path) -> None:
        self._flow = flow
        self._code = code
        self._running: list[Child] = []

    def start(self) -> None:
        folder = self._flow.folder / "old"
        folder.mkdir()
        environment = {
            **self._flow.environment,
            "PYTHONPATH": str(self._code),
            "LABELSTREAM_DATA": str(folder),
        }
        for role in ROLES:
            command = ["env", "-C", str(folder)]
            command += [f"{name}={value}" for name, value in environment.items()]
            command += [sys.executable, "-m", "streams.cli", "run", role]
            self._running.append(processes.start(command, self._flow.folder / f"old-{role}.log"))

    def alive(self) -> bool:
        return all(child.alive for child in self._running)

    def stop(self) -> None:
        processes.stop(self._running)


def add_history(flow: Pipeline, rows: int) -> None:
    """``rows`` more in each of the tables that are migrated."""
    client = flow.clickhouse()
    for table in TABLES:
        client.command(
            f"INSERT INTO {flow.database}.{table}\n"
            "SELECT * EXCEPT number REPLACE (concat('history-', toString(number)) AS row_id,\n"
            "    toDateTime64('2026-10-01 00:00:00', 6, 'UTC') + toIntervalSecond(number) AS created_at,\n"
            "    toUUID('00000000-0000-0000-0000-000000000001') AS _topic_id, toInt64(number) AS _offset)\n"
            f"FROM (SELECT * FROM {flow.database}.{table} WHERE label_version = 'v2' LIMIT 1) AS one\n"
            f"CROSS JOIN numbers({rows}) AS history"
        )
    client.close()


def kept(flow: Pipeline) -> list[object]:
    """The count, and a sum over the columns that 0.1.0 had, of the rows of `add_history`."""
    columns = (
        "row_id, created_at, label, confidence, label_version, _topic_id, _partition, _offset, _stored_at"
    )
    return [
        flow.rows(
            f"SELECT count(), sum(cityHash64({columns})) FROM {flow.database}.{table} "
            "WHERE startsWith(row_id, 'history-')"
        )[0]
        for table in TABLES
    ]


async def verdict(flow: Pipeline, ids: set[str], before: list[object]) -> list[str]:
    """What is wrong: nothing, if it is empty."""
    wrong = []
    if kept(flow) != before:
        wrong.append(f"the older rows are not those that there were: {before}, now {kept(flow)}")
    for table in TABLES:
        found = Counter(
            row_id
            for (row_id,) in flow.rows(
                f"SELECT row_id FROM {flow.database}.{table} "
                "WHERE label_version = 'v2' AND NOT startsWith(row_id, 'history-')"
            )
        )
        wrong += [f"{table}: row {one} is there {found[one]} times" for one in ids if found[one] != 1]
    for topic in ("rows", "labeled", "augmented"):
        messages = await flow.topic(topic)
        keys = Counter(
            one.key.decode()
            for one in messages
            if one.key and dict(one.headers).get("label-version") in (None, b"v2")
        )
        wrong += [f"{topic}: row {one} is there {keys[one]} times" for one in ids if keys[one] != 1]
    return wrong


async def run(folder: Path, *, rows: int, seconds: float) -> list[str]:
    """The whole course; prints how long what took."""
    saved = dump.load(RELEASE)
    taxonomy = str(dump.DATA / RELEASE / "taxonomy.yaml")
    with (
        checked_out(RELEASE, folder / "code") as code,
        stack_in(folder / "stack", taxonomy=dump.DATA / RELEASE / "taxonomy.yaml") as stack,
    ):
        flow = Pipeline(
            stack,
            "upgraded",
            folder,
            **saved.note["settings"],
            TAXONOMY_PATH=taxonomy,
            POLL_INTERVAL_SECONDS="0.3",
        )
        await dump.restore(saved, flow.kafka, flow.clickhouse_port, flow.prefix)
        add_history(flow, rows)
        before, letters = kept(flow), flow.count("dead_letters")
        old, traffic = OldRoles(flow, code), Traffic(flow)
        old.start()
        traffic.start()

        def stored(ids: set[str]) -> bool:
            found = flow.rows(
                f"SELECT DISTINCT row_id FROM {flow.database}.logs_augmented "
                "WHERE label_version = 'v2' AND NOT startsWith(row_id, 'history-')"
            )
            return ids <= {one for (one,) in found}

        try:
            first = set(traffic.ids)
            flow.wait(lambda: stored(first) and len(traffic.ids) > 20, "the old roles work")
            begun = time.monotonic()
            done = await asyncio.to_thread(flow.command, "init")
            assert done.returncode == 0, done.stderr
            took = time.monotonic() - begun
            print(f"init with {rows} older rows in each of two tables: {took:.0f} s", flush=True)
            for role in ROLES:
                flow.start(role)
            begun = time.monotonic()
            while time.monotonic() - begun < seconds:
                await asyncio.sleep(1)
                assert old.alive(), flow.explain()
            both = len(traffic.ids)
            old.stop()
            await asyncio.sleep(seconds / 6)
            traffic.stop()
            ids = set(traffic.ids) | {one for some in saved.note["waiting"].values() for one in some}
            flow.wait(lambda: stored(ids), "every row is stored")
        finally:
            traffic.stop()
            old.stop()
            flow.stop()
        print(f"{len(traffic.ids)} rows came, {both} of them until the old roles ended", flush=True)
        wrong = await verdict(flow, ids, before)
        if (more := flow.count("dead_letters") - letters) > 0:
            wrong.append(f"{more} dead letters more")
        return wrong


def main() -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.upgrade.both_releases", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="more than the dump has")
    parser.add_argument("--seconds", type=float, default=60.0, help="both releases' roles together")
    given = parser.parse_args()
    as_program()
    with tempfile.TemporaryDirectory(prefix="labelstream-upgrade-") as scratch:
        try:
            wrong = asyncio.run(run(Path(scratch), rows=given.rows, seconds=given.seconds))
        except History as missing:
            print(f"skipped, the code of {RELEASE} cannot be had: {missing}")
            return 0
    print("\n".join(wrong[:40]) or "nothing is lost, and nothing is there twice")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
