"""Thousands of secrets through kills and outages: ``python -m tests.integration.privacy.soak``.

Fails if one is found anywhere behind the source table, or if a row is lost or doubled.
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
from collections.abc import Sequence
from pathlib import Path

from connectors.local.processes import free_port
from tests.fork_server import Forked
from tests.integration.pipeline import Pipeline
from tests.integration.privacy import leaks
from tests.stack import TAXONOMY, stack_in
from tests.waiting import PATIENCE

_ROLES = ("poller", "agents", "sink")
_BATCH = 250


def _faults(flow: Pipeline, *given: dict[str, object]) -> None:
    url = flow.llm.removesuffix("/v1") + "/faults"
    request = urllib.request.Request(url, json.dumps(list(given)).encode(), method="POST")
    urllib.request.urlopen(request, timeout=PATIENCE).close()


def _disturb(flow: Pipeline, roles: dict[str, Forked], chance: random.Random) -> str:
    """One fault: a role or its masking processes killed, or the model away for a while."""
    what = chance.choice((*_ROLES, "workers", "workers", "model"))
    if what == "workers":
        return f"{leaks.kill_workers([roles['poller'], roles['api']])} masking processes killed"
    if what == "model":
        _faults(flow, {"kind": "status", "status": 503})
        time.sleep(3)
        _faults(flow)
        return "the model was away"
    roles[what].kill()
    roles[what].wait()
    roles[what] = flow.start(what)[0]
    return f"{what} killed"


def _labelled(flow: Pipeline, wanted: int) -> None:
    flow.wait(lambda: flow.count("logs_labeled") >= wanted, f"{wanted} rows are labelled")
    flow.wait(lambda: flow.count("logs_augmented") >= wanted, f"{wanted} rows have variants")


def run(folder: Path, count: int, seed: int) -> Sequence[str]:
    """What went wrong."""
    chance = random.Random(seed)
    made = leaks.secrets(count, seed)
    with stack_in(folder / "stack", taxonomy=TAXONOMY) as stack:
        port = free_port()
        settings = {
            "PRIVACY": "mask",
            "PRIVACY_ENTITIES": leaks.ENTITIES,
            "PRIVACY_SECRET": leaks.SECRET,
            "LOG_FORMAT": "json",
            "API_PORT": str(port),
        }
        flow = Pipeline(stack, "leaks", folder, **settings)
        tap = leaks.Tap(flow.llm.removeprefix("http://").removesuffix("/v1"))
        tap.open()
        flow.environment |= dict.fromkeys(
            ("LLM_LABELER_API_BASE", "LLM_AUGMENTER_API_BASE"), f"http://127.0.0.1:{tap.port}/v1"
        )
        try:
            leaks.create(flow)
            roles = {role: flow.start(role)[0] for role in (*_ROLES, "api")}
            for first in range(0, count, _BATCH):
                leaks.insert(flow, first + 1, made[first : first + _BATCH])
                print(f"{first + _BATCH} rows; {_disturb(flow, roles, chance)}", flush=True)
            wanted = count - count // 50
            _labelled(flow, wanted)
            flow.wait(lambda: flow.count("dead_letters") == count // 50, "rows without a time are given up")
            found = asyncio.run(leaks.everything(flow))
            found += [(f"model {at}", sent) for at, sent in enumerate(tap.sent)]
            problems = leaks.leaks(made, found)
            distinct = flow.rows(f"SELECT uniqExact(row_id), count() FROM {flow.database}.logs_labeled")
            if distinct != [(wanted, wanted)]:
                problems.append(f"{wanted} rows, and the table has {distinct}")
            return problems
        finally:
            flow.stop()
            tap.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--secrets", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        problems = run(Path(name), chosen.secrets, chosen.seed)
    print(*problems[:50], sep="\n")
    print(f"{chosen.secrets} secrets, {len(problems)} found" if problems else "nothing was found")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
