"""Source tables by chance for some time: ``python -m tests.integration.tables.soak --seconds 600``.

Servers of several zones; each case is read in each of the ways. Prints what went wrong, with its seed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.integration.tables.cases import case
from tests.integration.tables.server import server
from tests.integration.tables.trial import prepare, troubles

_ZONES = ("Asia/Vladivostok", "America/Sao_Paulo", "Pacific/Apia", "UTC")


async def _run(seconds: float, seed: int, zones: list[str]) -> int:
    bad, tried, deadline = 0, 0, time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        servers = {zone: stack.enter_context(server(folder / zone.replace("/", "-"), zone)) for zone in zones}
        for address in servers.values():
            await prepare(address)
        while time.monotonic() < deadline:
            zone = zones[seed % len(zones)]
            made = case(seed)
            try:
                told = await troubles(servers[zone], made, folder)
            except Exception:
                told = [traceback.format_exc(limit=-4)]
            tried += 1
            if told:
                bad += 1
                print(f"--- server {zone}, {made}", *told, sep="\n", flush=True)
            seed += 1
    print(f"{tried} tables, {bad} of them not read right; next seed {seed}")
    return 1 if bad else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--zones", nargs="+", default=list(_ZONES))
    chosen = parser.parse_args()
    return asyncio.run(_run(chosen.seconds, chosen.seed, chosen.zones))


if __name__ == "__main__":
    sys.exit(main())
