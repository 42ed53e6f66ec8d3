"""Roles beside tables of a long history: their start, takeover and memory, the routes and commands beside."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
import urllib.request
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.integration.connectors.clickhouse.history_tables import FIRST
from tests.integration.pipeline import Pipeline
from tests.waiting import eventually

ROLES = ("sink", "agents", "poller", "api")
# Rows that are labelled meanwhile, and after a role was killed.
WORK, MORE = 20_000, 40
TAKEN_OVER = ("poller", "agents", "sink")
KEY = "key-that-writes"
# The first route that asks for the audit's rows: its first call in a process looks at two weeks of rows.
FIRST_DRAW = "/review"
ROUTES = (
    "/rows/{row}",
    "/rows/nobody",
    "/labels",
    "/labels?label=label3",
    "/labels?version=v2",
    "/labels?text=такого%20нет",
    "/labels?since={since}&until={until}",
    "/overview",
    "/page/letters",
    "/page/letters?only_open=true",
    "/page/versions",
    "/page/versions/diff?a=v1&b=v2",
    "/page/replays",
    "/page/audit",
    "/quality",
    "/quality?by=week",
    "/quality/drift",
    "/quality/rows?right=label7&given=label7",
    FIRST_DRAW,
    "/review/gold",
    "POST /review/claim?want=2",
    "POST /review/claim?want=2&queue=audit",
    "POST /review/claim?want=2&queue=disagreements",
    "/uploads",
    "/jobs",
)
COMMANDS = (
    ("versions", "list"),
    ("versions", "show", "v1"),
    ("versions", "diff", "v1", "v2"),
    ("dead-letters", "list"),
    ("evaluate",),
    ("gold", "suspects"),
    ("cascade", "status"),
    ("erase", "--row", "12345", "--dry-run"),
    ("erase", "--user", "nobody", "--dry-run"),
    ("check",),
    ("status",),
    ("replay", "--from-table", "--version", "v9", "--dry-run"),
    # What remains of it is published again by each call: none of these rows is labelled by then.
    ("replay", "--from-table", "--version", "v9", "--limit", "100", "--no-wait"),
)


def peak_megabytes(process: psutil.Process) -> float:
    """The most memory that a process took."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


async def started(flow: Pipeline, role: str) -> tuple[float, psutil.Process]:
    """Seconds until a role is ready, and its process."""
    began = time.perf_counter()
    (process,) = flow.start(role)

    def ready() -> bool:
        with contextlib.suppress(OSError, ValueError):
            for note in (flow.folder / "data" / "run").glob(f"{role}-*-{process.pid}.json"):
                with urllib.request.urlopen(f"{json.loads(note.read_text())['url']}/readyz") as answer:
                    return bool(answer.status == 200)
        return False

    await eventually(ready, f"{role} is ready", measure=lambda: flow.log(role))
    return time.perf_counter() - began, psutil.Process(process.pid)


def routes(flow: Pipeline, middle: tuple[int, datetime], calls: int) -> dict[str, list[float]]:
    """Seconds of each call of each route, in order. ``middle``: a row's id and time."""
    row, at = middle
    given = {
        "row": row,
        "since": f"{at:%Y-%m-%dT%H:%M:%SZ}",
        "until": f"{at + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}",
    }
    found: dict[str, list[float]] = {}
    base = f"http://127.0.0.1:{flow.environment['API_PORT']}"
    headers = {"X-API-Key": KEY, "X-Desk": "tab"}
    with httpx.Client(base_url=base, headers=headers, timeout=60.0) as client:
        for route in ROUTES:
            method, _, path = route.rpartition(" ")
            for _ in range(calls):
                began = time.perf_counter()
                answer = client.request(method or "GET", path.format(**given))
                found.setdefault(f"route {route}", []).append(time.perf_counter() - began)
                if answer.status_code != (404 if "nobody" in route else 200):
                    print(f"  {route}: {answer.status_code} {answer.text[:200]}", flush=True)
                    found[f"route {route}"] = [float("inf")]
                    break
    return found


def commands(flow: Pipeline, calls: int) -> dict[str, list[float]]:
    """Seconds of each call of each command, from the start of its process to its end."""
    program = Path(sys.executable).parent / "labelstream"
    found: dict[str, list[float]] = {}
    for words in COMMANDS:
        for _ in range(calls):
            began = time.perf_counter()
            done = subprocess.run(
                [program, *words], env=flow.environment, cwd=flow.folder, capture_output=True, check=False
            )
            found.setdefault(f"labelstream {' '.join(words)}", []).append(time.perf_counter() - began)
            if done.returncode:
                print(f"  {words}: {done.stderr.decode()[-300:]}", flush=True)
                found[f"labelstream {' '.join(words)}"] = [float("inf")]
                break
    return found


def insert(flow: Pipeline, first: int, count: int) -> None:
    """Rows of the source, from the number ``first`` on."""
    flow.clickhouse().command(
        f"INSERT INTO {flow.database}.logs SELECT {first} + number,\n"
        f"    concat('где мой заказ ', toString({first} + number)),\n"
        f"    toDateTime('{FIRST:%Y-%m-%d %H:%M:%S}', 'UTC') + intDiv({first} + number, 10)\n"
        f"FROM numbers({count})"
    )


async def taken_over(flow: Pipeline, role: str, first: int) -> float:
    """Seconds from the end of a role's only process by SIGKILL, while another stands by, until rows that come
    then are stored.
    """
    (old,) = [process for process in flow.running() if process.args[-1] == role]
    await started(flow, role)
    before = flow.count("logs_labeled")
    began = time.perf_counter()
    old.kill()
    await asyncio.to_thread(insert, flow, first, MORE)
    await eventually(
        lambda: flow.count("logs_labeled") >= before + MORE, f"another {role} goes on", measure=lambda: None
    )
    return time.perf_counter() - began


def percentile(took: list[float]) -> float:
    """The 95th of ``took``, of 20 the second largest; of one that one."""
    return round(sorted(took)[max(0, int(len(took) * 0.95) - 1)], 3)


async def at_work(
    flow: Pipeline, rows: int, middle: tuple[int, datetime], calls: int, result: dict[str, Any]
) -> None:
    """The roles beside tables of ``rows`` rows, of which ``middle`` is one (id, time). Adds to ``result``."""
    before = flow.count("logs_augmented")
    # They go on where the history, and an earlier run, have ended.
    first = rows + before - rows // 10
    flow.clickhouse().command(f"TRUNCATE TABLE {flow.database}.logs")
    insert(flow, first, WORK)
    running: dict[str, psutil.Process] = {}
    for role in ROLES:
        seconds, running[role] = await started(flow, role)
        result["at_work"][f"start of the {role}"] = round(seconds, 3)
        print(f"{seconds:8.3f} s  start of the {role}", flush=True)
    asked_there = await asyncio.to_thread(routes, flow, middle, calls)
    asked_there |= await asyncio.to_thread(commands, flow, max(1, calls // 4))
    for name, took in asked_there.items():
        result["at_work"][name] = percentile(took)
        print(f"{result['at_work'][name]:8.3f} s  {name} ({took[0]:.3f} the first)", flush=True)
    audit = f"route {FIRST_DRAW}"
    result["at_work"][f"{audit}, the first"] = round(asked_there[audit][0], 3)
    await eventually(
        lambda: flow.count("logs_augmented") >= before + WORK,
        "the rows are labelled and have variants",
        measure=lambda: flow.count("logs_augmented"),
    )
    for role, process in running.items():
        result["peak_mb"][role] = round(peak_megabytes(process))
        print(f"{role}: {result['peak_mb'][role]} MB at most", flush=True)
    for number, role in enumerate(TAKEN_OVER):
        seconds = await taken_over(flow, role, first + WORK + number * MORE)
        result["taken_over"][role] = round(seconds, 3)
        print(f"{seconds:8.3f} s  takeover of the {role}", flush=True)
