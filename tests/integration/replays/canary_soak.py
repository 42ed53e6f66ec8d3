"""A canary at its full size: ``python -m tests.integration.replays.canary_soak --rows 30000 --share 0.05``.

On a local stack of its own: live rows, of which a canary draws its share, while poller and workers are killed
with -9 in turn. Then people judge its rows, fifty at a time, by whom its version loses five points. At last a
canary whose model cannot answer some texts. Prints what it saw; exit code 1 if anything is missing, doubled
or published, no loss was found in 1,500 rows, or the failures did not end the last one.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import random
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from streams.canary.source import in_canary
from streams.core.environment import load
from streams.core.times import moment
from streams.ports.lookups import Place
from tests.faults.world import LLM_ARGS, TAXONOMY, as_program
from tests.integration.pipeline import Pipeline
from tests.integration.replaying import OLD, ROLES, insert, labels, once, told, two_taxonomies
from tests.stack import stack_in

CHUNK, JUDGED, LOSS = 1_000, 50, 0.05
MOST_JUDGED = 1_500
MODELS = SERVED, FAILING = "served", "failing"


def say(what: str, value: object) -> None:
    print(f"{what:60} {value}", flush=True)


def found(flow: Pipeline) -> dict[str, Any]:
    canary: dict[str, Any] = told(flow, "versions", "canary")["canary"]
    return canary


def live_rows(flow: Pipeline, rows: int) -> None:
    """Insert so many, and kill a poller and a worker in turn."""
    processes = {role: flow.start(role)[0] for role in ROLES}
    for number in range(rows // CHUNK):
        insert(flow, 1_000 + number * CHUNK, CHUNK, datetime.now(UTC))
        if number % 3 == 1:
            role = ("poller", "agents")[number // 3 % 2]
            processes[role].kill()
            processes[role].wait()
            (processes[role],) = flow.start(role)
        flow.wait(lambda number=number: len(labels(flow, "v1")) >= number * CHUNK, f"{number} thousand rows")
    flow.wait(lambda: len(labels(flow, "v1")) == 100 + rows, "all live rows labelled")


async def paired(flow: Pipeline, share: float) -> bool:
    """Whether the canary labelled what it had to, and nothing else."""
    settings = load({"TOPIC_PREFIX": flow.prefix, "CLICKHOUSE_DATABASE": flow.database})
    rows = flow.rows(
        f"SELECT row_id, toUnixTimestamp64Micro(created_at) FROM {flow.database}.logs_labeled "
        "WHERE label_version = 'v1' AND toUInt64OrZero(row_id) >= 1000"
    )
    wanted = {row_id for row_id, at in rows if in_canary(settings, share, Place(moment(at), row_id))}
    flow.wait(lambda: len(labels(flow, "v2")) >= len(wanted), "all rows of the canary labelled")
    shadow = await once(flow, "labeled.shadow", "v2")
    replayed = Counter(message.key.decode() for message in await flow.topic("replay"))
    say("rows drawn, of live rows", f"{len(wanted)} of {len(rows)}")
    say(
        "in the table, on the shadow topic, on esk.replay",
        [len(labels(flow, "v2")), len(shadow), len(replayed)],
    )
    public = len(await once(flow, "labeled", "v2"))
    say("published to subscribers; published twice on esk.replay", [public, replayed.total() - len(replayed)])
    return (
        set(labels(flow, "v2")) == shadow == wanted == set(replayed)
        and not public
        and max(replayed.values()) == 1
    )


def judged(flow: Pipeline, folder: Path) -> bool:
    """Whether the loss ends the canary soon enough."""
    first, second = labels(flow, "v1"), labels(flow, "v2")
    rows = sorted(second)
    random.Random(1).shuffle(rows)
    differ = sum(first[row] != second[row] for row in rows) / len(rows)
    say("rows on which the versions differ", f"{differ:.3f}")
    chance = random.Random(2)
    for start in range(0, min(len(rows), MOST_JUDGED), JUDGED):
        some = rows[start : start + JUDGED]
        right = [first[row] if chance.random() < (1 + LOSS / differ) / 2 else second[row] for row in some]
        with (folder / "gold.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("row_id", "label"), *zip(some, right, strict=True)])
        told(flow, "gold", "import", "gold.csv")
        count = start + len(some)

        def looked(count: int = count) -> bool:
            canary = found(flow)
            seen = (canary["figures"] or {}).get("judged") or {}
            return canary["state"] == "stopped" or seen.get("rows", 0) >= count

        flow.wait(looked, f"{count} judged rows looked at")
        canary = found(flow)
        if canary["state"] == "stopped":
            say("stopped, after so many judged rows", [canary["stopped"]["why"], count])
            say("because", canary["stopped"]["text"])
            return bool(canary["stopped"]["why"] == "loss")
        say("evidence", canary["figures"]["judged"])
    return False


def failing(flow: Pipeline, first: int) -> bool:
    """Whether failures of the canary's model end it, and none of the live rows'."""
    fault = {"kind": "bad_answer", "model": FAILING, "match": "7"}
    asked = urllib.request.Request(flow.llm.removesuffix("/v1") + "/faults", json.dumps(fault).encode())
    urllib.request.urlopen(asked).close()
    if found(flow)["state"] != "stopped":  # too few rows for a loss
        told(flow, "versions", "canary", "stop")
    told(flow, "versions", "canary", "v3", "--share", "0.5", "--model", FAILING)
    insert(flow, first, CHUNK, datetime.now(UTC))
    flow.wait(lambda: found(flow)["state"] == "stopped", "the failures ended it")
    canary = found(flow)
    say("stopped", [canary["stopped"]["why"], canary["stopped"]["text"]])
    flow.wait(lambda: len(labels(flow, "v1")) == first - 1_000 + CHUNK + 100, "all live rows labelled")
    return bool(canary["stopped"]["why"] == "failures" and canary["figures"]["pairs"])


def main() -> None:
    """Parse the arguments and run all of it."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.integration.replays.canary_soak", description=__doc__
    )
    parser.add_argument("--rows", type=int, default=30_000)
    parser.add_argument("--share", type=float, default=0.05)
    given = parser.parse_args()
    as_program()
    offered = [word for name in MODELS for word in ("--model", name)]
    with (
        tempfile.TemporaryDirectory(prefix="labelstream-canary-") as name,
        stack_in(Path(name) / "stack", llm_args=(*LLM_ARGS, *offered), taxonomy=TAXONOMY) as status,
    ):
        folder = Path(name)
        # The canary's taxonomy lacks a label.
        flow = two_taxonomies(lambda **settings: Pipeline(status, "canary", folder, **settings), folder)
        flow.environment["TAXONOMY_PATH"] = str(folder / "full.yaml")
        flow.environment |= {"LLM_LABELER_MODEL": SERVED, "LLM_AUGMENTER_MODEL": SERVED}
        try:
            insert(flow, 1, 100, OLD)
            first = flow.start(*ROLES)
            flow.wait(lambda: flow.count("logs_labeled") == 100, "the first rows labelled")
            told(flow, "versions", "canary", "v2", "--share", str(given.share), "--taxonomy", "less.yaml")
            for one in first:
                one.terminate()
                one.wait()
            began = time.monotonic()
            live_rows(flow, given.rows)
            say("seconds for all live rows", round(time.monotonic() - began))
            kept = asyncio.run(paired(flow, given.share)) and judged(flow, folder)
            kept = failing(flow, 1_000 + given.rows) and kept
        finally:
            flow.stop()
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
