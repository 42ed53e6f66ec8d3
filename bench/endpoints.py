"""Are the slots of several endpoints used while one dies twice? ``python -m bench.endpoints [--json]``.

One agents worker on two stand-ins of 32 slots each, one of 0.3 s and one of 1.2 s an answer; the fast one is
killed twice and started again. Counted: how full the slots of those alive are from SETTLE seconds after each
change on, refusals, and rows that did not come out once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench.endpoint import endpoint, stats_of
from bench.harness import options, report, say, stack
from bench.running import distinct_texts, fill_rows, make_topics, role, with_settings
from streams.core.settings import Settings

SLOTS, FAST, SLOW = 32, 0.3, 1.2
_QUEUE = SLOTS // 2  # beyond it they answer 429
SETTLE = 10.0
_LOOK_SECONDS = 0.1
# Whether the fast one is alive, phase by phase.
_PHASES = (True, False, True, False, True)


@dataclass
class Look:
    """Seconds in a phase, and of those alive the slots, those in use, and calls and refusals since their
    start.
    """

    phase: int
    at: float
    slots: int
    busy: int
    calls: int
    refused: int


class Mortal:
    """A stand-in at one address that may be killed and started again."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._stack = contextlib.ExitStack()
        self.base = self._stack.enter_context(endpoint(slots=SLOTS, seconds=seconds, queue=_QUEUE))
        self.alive = True

    def set(self, alive: bool) -> None:
        if self.alive and not alive:
            self._stack.close()
        elif alive and not self.alive:
            port = int(self.base.rsplit(":", 1)[1].split("/", maxsplit=1)[0])
            self._stack.enter_context(endpoint(slots=SLOTS, seconds=self._seconds, queue=_QUEUE, port=port))
        self.alive = alive

    def stats(self) -> dict[str, Any] | None:
        return stats_of(self.base) if self.alive else None


@contextlib.contextmanager
def mortal(seconds: float) -> Iterator[Mortal]:
    """A stand-in that is alive, and ended with the block."""
    made = Mortal(seconds)
    try:
        yield made
    finally:
        made.set(False)


def run(settings: Settings, seconds: float) -> tuple[list[Look], int, int]:
    """Looks, how many rows there were, and how many labels came out, each counted once."""
    rows = int(sum(SLOTS / SLOW + alive * SLOTS / FAST for alive in _PHASES) * seconds * 1.1) + 2_000
    looks: list[Look] = []
    with mortal(FAST) as fast, mortal(SLOW) as slow, endpoint(slots=0) as silent:
        here = with_settings(
            settings,
            topic_prefix="endpoints",
            topic_partitions=4,
            llm_labeler_api_base=f"{fast.base},{slow.base}",
            llm_labeler_concurrency=2 * SLOTS,
            llm_augmenter_api_base=silent,
        )
        make_topics(here)
        fill_rows(here, distinct_texts(rows))
        with role("agents", here, settings.labelstream_data / "endpoints"):
            deadline = time.monotonic() + 60
            while not stats_of(slow.base)["answered"]:
                if time.monotonic() > deadline:
                    raise TimeoutError("nothing was asked of the endpoints; see endpoints/agents.log")
                time.sleep(0.05)
            for phase, alive in enumerate(_PHASES):
                fast.set(alive)
                began = time.monotonic()
                while (at := time.monotonic() - began) < seconds:
                    looks.append(_look(phase, at, fast, slow))
                    time.sleep(_LOOK_SECONDS)
            count, once = asyncio.run(_labelled(here))
    return looks, count, once


def _look(phase: int, at: float, *endpoints: Mortal) -> Look:
    found = [stats for one in endpoints if (stats := one.stats()) is not None]
    return Look(
        phase,
        at,
        slots=SLOTS * len(found),
        busy=sum(min(stats["in_flight"] - stats["waiting"], SLOTS) for stats in found),
        calls=sum(stats["calls"] for stats in found),
        refused=sum(stats["refused"] for stats in found),
    )


async def _labelled(settings: Settings) -> tuple[int, int]:
    """Labels on the topic, and distinct rows among them."""
    from connectors.kafka.connection import connection
    from connectors.kafka.tail import TailReader
    from streams.core.records import partitions_of
    from streams.core.topics import Topics

    places = partitions_of(Topics(settings.topic_prefix).labeled, settings.topic_partitions)
    keys: list[bytes | None] = []
    async for records in TailReader(connection(settings)).read_many(dict.fromkeys(places, 0)):
        keys += [record.key for record in records]
    return len(keys), len(set(keys))


def fullness(looks: list[Look], phase: int) -> float:
    """The share of the slots alive that are in use, from SETTLE seconds on."""
    settled = [look for look in looks if look.phase == phase and look.at >= SETTLE]
    return sum(look.busy for look in settled) / max(1, sum(look.slots for look in settled))


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--seconds", type=float, default=25.0, help="how long each phase lasts")
    chosen = parser.parse_args()
    with stack(clickhouse=False) as settings:
        looks, labelled, once = run(settings, chosen.seconds)
    figures: list[tuple[str, dict[str, float]]] = []
    for phase, alive in enumerate(_PHASES):
        found = {"slots in use": fullness(looks, phase), "alive": 1.0 + alive}
        say(f"phase {phase}: {found}")
        figures.append((f"phase {phase}, the fast one {'alive' if alive else 'dead'}", found))
    report(
        f"two endpoints of {SLOTS} slots, {FAST} s and {SLOW} s; the fast one dies twice",
        figures,
        as_json=chosen.json,
        ratios={
            "endpoints: slots in use of those alive, least of the phases": min(
                fullness(looks, phase) for phase in range(len(_PHASES))
            ),
            "endpoints: labels that came twice": float(labelled - once),
            "endpoints: share refused": looks[-1].refused / max(1, looks[-1].calls),
        },
    )


if __name__ == "__main__":
    main()
