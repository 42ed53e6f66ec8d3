"""Relabelling at its full size: ``python -m tests.integration.relabel --rows 50000``. Some ten minutes.

On a local stack of its own: so many rows labelled as v1; the taxonomy gains a label and the prompt changes;
a replay from the topic beside live rows at 50 a second, first left alone and timed, then the command
and the worker killed with -9; the difference compared with a join by hand, promotion there and back; the
same from the table after `esk.rows` was deleted and made again; and a subscriber who knows only the contract
judges 10,000 messages of each topic. Prints what it saw; exit code 1 if anything is missing, doubled or
refused.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from aiokafka import AIOKafkaProducer

sys.path.insert(0, str(Path(__file__).parent))

from tests.faults.world import LLM_ARGS, TAXONOMY, as_program
from tests.integration.contract_reader import CHANNELS, judge
from tests.integration.pipeline import Pipeline
from tests.integration.replaying import (
    NEW,
    ROLES,
    begin,
    current,
    labels,
    once,
    texts,
    told,
    two_taxonomies,
    write_prompt,
)
from tests.kafka_tools import recreate
from tests.stack import stack_in

LIVE_FIRST = 10_000_000  # ids of live rows
PAUSE = 0.02
POISON = 10_000


class Live(threading.Thread):
    """Inserts live rows, one every 20 ms, until stopped."""

    def __init__(self, flow: Pipeline) -> None:
        super().__init__(daemon=True)
        self._flow = flow
        self._ending = threading.Event()
        self.ids: list[int] = []
        self.inserted: dict[int, float] = {}

    def run(self) -> None:
        client = self._flow.clickhouse()
        for number in itertools.count(LIVE_FIRST):
            if self._ending.is_set():
                break
            began = time.time()
            text = f"живой вопрос номер {number}"
            client.insert(
                "logs",
                [[number, text, datetime.now(UTC)]],
                column_names=["id", "query_text", "created_at"],
                database=self._flow.database,
            )
            self.ids.append(number)
            self.inserted[number] = began
            time.sleep(max(0.0, PAUSE - (time.time() - began)))
        client.close()

    def stop(self) -> None:
        self._ending.set()
        self.join()


def fill(flow: Pipeline, rows: int, distinct: int) -> None:
    """``rows`` rows of ``distinct`` texts."""
    known = texts(distinct, "n")
    client = flow.clickhouse()
    for first in range(0, rows, 10_000):
        numbers = range(first, min(first + 10_000, rows))
        now = datetime.now(UTC)
        client.insert(
            "logs",
            [[n + 1, known[n % distinct], now] for n in numbers],
            column_names=["id", "query_text", "created_at"],
            database=flow.database,
        )
    client.close()


async def seconds_to(flow: Pipeline, live: Live, first: int, last: int) -> dict[str, float]:
    """From the row's message to its label's, and from its insert: p50 and p95 of live rows by their place."""
    wanted = {str(number) for number in live.ids[first:last]}
    polled, done = [
        {m.key.decode(): m.timestamp / 1000 for m in await flow.topic(topic) if m.key.decode() in wanted}
        for topic in ("rows", "labeled")
    ]
    label = [done[row] - polled[row] for row in wanted]
    whole = [done[row] - live.inserted[int(row)] for row in wanted]
    return {
        "label p50": float(np.percentile(label, 50)),
        "label p95": float(np.percentile(label, 95)),
        "insert to label p50": float(np.percentile(whole, 50)),
        "insert to label p95": float(np.percentile(whole, 95)),
    }


def stored(flow: Pipeline, version: str) -> int:
    """Rows in the table under ``version``."""
    return flow.count(f"logs_labeled WHERE label_version = '{version}'")


def keep_doubles(flow: Pipeline) -> None:
    """Have no merges in the result table: they would take doubles away before they are counted."""
    client = flow.clickhouse()
    client.command(f"SYSTEM STOP MERGES {flow.database}.logs_labeled")
    client.close()


async def poison(flow: Pipeline) -> None:
    """Messages that nobody can read, so that there are dead letters to be judged."""
    producer = AIOKafkaProducer(bootstrap_servers=flow.kafka)
    await producer.start()
    for number in range(POISON):
        await producer.send(f"{flow.prefix}.rows", f"poison {number}".encode(), partition=number % 4)
    await producer.stop()


class Verdicts:
    """What was seen, and whether all of it is as promised."""

    def __init__(self) -> None:
        self.kept = True

    def say(self, what: str, kept: bool = True) -> None:
        self.kept = self.kept and kept
        print(f"{'' if kept else 'BROKEN: '}{what}", flush=True)


async def relabel(flow: Pipeline, rows: int, seen: Verdicts) -> None:
    fill(flow, rows, max(rows * 12 // 50, 1))
    flow.start("poller", "sink")
    (worker,) = flow.start("agents")
    began = time.monotonic()
    flow.wait(lambda: flow.count("logs_labeled") == rows, "all rows labelled")
    seen.say(f"{rows} rows labelled as v1 in {time.monotonic() - began:.0f} s")

    live = Live(flow)
    live.start()
    await asyncio.sleep(5)
    at = len(live.ids)
    await asyncio.sleep(20)
    alone = len(live.ids)
    replaying = begin(flow, "replay", "--from-topic", *NEW)
    began = time.monotonic()
    flow.wait(lambda: stored(flow, "v2") > rows // 50, "the replay is at work")
    beside, before = len(live.ids), stored(flow, "v2")
    await asyncio.sleep(20)
    timed, rate = len(live.ids), (stored(flow, "v2") - before) / 20
    await asyncio.sleep(3)
    quiet = await seconds_to(flow, live, at, alone)
    crowd = await seconds_to(flow, live, beside, timed)
    for name, seconds in quiet.items():
        ratio = crowd[name] / seconds
        seen.say(f"live rows, {name}: alone {seconds:.3f} s, beside {crowd[name]:.3f} s, {ratio:.2f} times")
    seen.say(f"the replay meanwhile: {rate:.0f} rows/s")

    killed = [await kill(replaying, lambda: stored(flow, "v2") > rows * 3 // 10)]
    resumed = begin(flow, "replay", "resume", told(flow, "replay", "list")["jobs"][0]["id"])
    killed.append(await kill(worker, lambda: stored(flow, "v2") > rows * 3 // 5))
    (worker,) = flow.start("agents")
    resumed.wait(900)
    seen.say("the command and the worker were killed at work", all(killed) and live.is_alive())
    live.stop()
    took = time.monotonic() - began
    seen.say(f"the replay ended {took:.0f} s after its beginning", resumed.returncode == 0)
    flow.wait(lambda: stored(flow, "v1") >= rows + len(live.ids), "live rows")
    await verify(flow, rows, live, seen)
    compare(flow, seen)


async def kill(process: Any, when: Callable[[], bool]) -> bool:
    """Whether it was still at work."""
    while not when() and process.poll() is None:
        await asyncio.sleep(0.1)
    at_work: bool = process.poll() is None
    process.kill()
    process.wait()
    return at_work


async def verify(flow: Pipeline, rows: int, live: Live, seen: Verdicts) -> None:
    """Each row once under v1 and under v2, in the tables and on the topics."""
    history = {str(number) for number in range(1, rows + 1)}
    first, second = labels(flow, "v1"), labels(flow, "v2")
    every = history | {str(number) for number in live.ids}
    seen.say(f"v1: {len(first)} of {len(every)} rows, each once", set(first) == every)
    seen.say(f"v2: {len(second)} rows, each once, all of the history", history <= set(second) <= every)
    there = await once(flow, "labeled.shadow", "v2")
    seen.say(f"v2 on the topic: {len(there)} rows, each once", there == set(second))
    there = await once(flow, "labeled", "v1")
    seen.say(f"v1 on the topic: {len(there)} rows, each once", there == every)


def compare(flow: Pipeline, seen: Verdicts) -> None:
    first, second = labels(flow, "v1"), labels(flow, "v2")
    began = time.monotonic()
    found = {one["row_id"] for one in told(flow, "versions", "diff", "v1", "v2")["changed"]}
    took = time.monotonic() - began
    by_hand = {row for row in set(first) & set(second) if first[row] != second[row]}
    seen.say(f"versions diff: {len(found)} changed rows in {took:.1f} s, as by hand", found == by_hand)
    for version, wanted in (("v2", second), ("v1", first)):
        began = time.monotonic()
        told(flow, "versions", "promote", version)
        took = time.monotonic() - began
        shown = {row: label for row, (_, label) in current(flow).items() if row in wanted}
        seen.say(f"versions promote {version}: {took:.1f} s, the view shows it", shown == wanted)


async def from_table(flow: Pipeline, seen: Verdicts) -> None:
    flow.stop()
    await recreate(flow.kafka, f"{flow.prefix}.rows")
    flow.start(*ROLES)
    began = time.monotonic()
    command = begin(flow, "replay", "--from-table", "--version", "v3", "--taxonomy", "full.yaml")
    done = command.wait(900) == 0
    job = told(flow, "replay", "list")["jobs"][0]
    seen.say(
        f"--from-table after esk.rows was made again: {job['published']} rows, "
        f"{time.monotonic() - began:.0f} s",
        done and job["state"] == "done",
    )
    first, third = labels(flow, "v1"), labels(flow, "v3")
    seen.say(f"v3: {len(third)} rows, each once, all that v1 has", set(third) == set(first))
    there = await once(flow, "labeled.shadow", "v3")
    seen.say(f"v3 on the topic: {len(there)} rows, each once", there == set(third))
    there = await once(flow, "labeled", "v1")
    seen.say(f"v1 on the topic still: {len(there)} rows, each once", there == set(first))


async def contract(flow: Pipeline, seen: Verdicts) -> None:
    flow.wait(lambda: flow.count("logs_augmented") >= stored(flow, "v1"), "variants")
    judged = judge(flow.kafka, flow.prefix, 10_000, [name for name in CHANNELS if name != "deadLetter"])
    await poison(flow)  # after it not all that is on the topic is labelstream's
    flow.wait(lambda: flow.count("dead_letters") >= POISON, "poison is dead-lettered")
    judged |= judge(flow.kafka, flow.prefix, 10_000, ["deadLetter"])
    for topic, (read, wrong) in judged.items():
        kept = read > 0 and not wrong
        seen.say(f"{topic}: {read} messages against the contract, {len(wrong)} refused", kept)


def main() -> None:
    """Parse the arguments and run all of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.integration.relabel", description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    given = parser.parse_args()
    as_program()
    seen = Verdicts()
    with (
        tempfile.TemporaryDirectory(prefix="labelstream-relabel-") as name,
        stack_in(Path(name) / "stack", llm_args=LLM_ARGS, taxonomy=TAXONOMY) as status,
    ):
        folder = Path(name)
        flow = two_taxonomies(lambda **settings: Pipeline(status, "relabel", folder, **settings), folder)
        write_prompt(flow)
        keep_doubles(flow)
        try:
            asyncio.run(all_of_it(flow, given.rows, seen))
        finally:
            flow.stop()
    sys.exit(0 if seen.kept else 1)


async def all_of_it(flow: Pipeline, rows: int, seen: Verdicts) -> None:
    await relabel(flow, rows, seen)
    await from_table(flow, seen)
    await contract(flow, seen)


if __name__ == "__main__":
    main()
