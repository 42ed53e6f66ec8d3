"""Runs of a plan against three brokers: the same promises, with faults that only a cluster has."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from connectors.local.stack import LocalStack
from tests.cluster import BROKERS, Cluster, cluster_in
from tests.faults.driver import Driver
from tests.faults.plan import Fault, Plan, make_plan
from tests.faults.world import LLM_ARGS, PARTITIONS, TAXONOMY, World
from tests.stack import shared_jars

_TOPICS = ("rows", "labeled", "augmented", "dead-letter")
# A session with the controller is 9 s: a shorter pause stops a leader, a longer one makes another.
_PAUSES = ((3.0, 8.0), (10.0, 14.0))
_BETWEEN = (1.0, 4.0)


def cluster_faults(chance: random.Random, kinds: tuple[str, ...]) -> tuple[Fault, ...]:
    """Faults of the brokers, one after the other. ``kinds``, each in its turn: ``leader_kill``,
    ``leader_pause``, ``follower_cut``, ``rolling_restart``, ``reassign``."""
    lengths = {
        "leader_kill": lambda: chance.uniform(1.0, 14.0),
        "leader_pause": lambda: chance.uniform(*chance.choice(_PAUSES)),
        # Longer than a slow follower stays in sync (30 s), or shorter.
        "follower_cut": lambda: chance.choice((chance.uniform(4.0, 12.0), chance.uniform(32.0, 38.0))),
        "rolling_restart": lambda: 0.0,
        "reassign": lambda: chance.uniform(2.0, 6.0),
    }
    at, made = 3.0, []
    for kind in kinds:
        seconds = lengths[kind]()
        place = f"{chance.choice(_TOPICS)}/{chance.randrange(PARTITIONS)}"
        made.append(Fault(at, kind, place, seconds))
        at += seconds + chance.uniform(*_BETWEEN)
    return tuple(made)


def make_cluster_plan(seed: int, rows: int = 5000) -> Plan:
    """A plan of `make_plan` that lasts as long as its brokers' faults do, each kind at least once."""
    chance = random.Random(f"labelstream cluster {seed} {rows}")
    kinds = ["leader_kill", "leader_pause", "leader_pause", "follower_cut", "rolling_restart", "reassign"]
    kinds += [chance.choice(("leader_kill", "leader_pause"))]
    chance.shuffle(kinds)
    faults = cluster_faults(chance, tuple(kinds))
    ends = faults[-1].at + faults[-1].seconds + 25.0  # a rolling restart takes so long, too
    plan = make_plan(seed, rows, ends)
    return replace(plan, faults=tuple(sorted([*plan.faults, *faults], key=lambda fault: fault.at)))


def make_short_cluster_plan(seed: int) -> Plan:
    """A leader that is killed, one that is paused and a follower that is cut off, within half a minute."""
    chance = random.Random(f"labelstream cluster {seed} short")
    faults = (
        Fault(3.0, "follower_cut", f"labeled/{chance.randrange(PARTITIONS)}", 7.0),
        Fault(11.0, "leader_kill", f"labeled/{chance.randrange(PARTITIONS)}", 2.0),
        Fault(24.0, "leader_pause", f"rows/{chance.randrange(PARTITIONS)}", 6.0),
    )
    plan = make_plan(seed, 600, 26.0)
    kept = tuple(fault for fault in plan.faults if fault.kind in ("kill", "pause", "join", "leave"))
    return replace(plan, faults=tuple(sorted([*kept, *faults], key=lambda fault: fault.at)))


class ClusterWorld(World):
    """The local stack's ClickHouse and LLM stand-in, and three brokers."""

    def __init__(self, stack: LocalStack, cluster: Cluster) -> None:
        status = stack.up(kafka=False, llm_args=LLM_ARGS, taxonomy=TAXONOMY)
        super().__init__(stack, status.with_external("kafka", cluster.address))
        self.cluster = cluster


@contextlib.contextmanager
def cluster_world(folder: Path, cluster: Cluster) -> Iterator[ClusterWorld]:
    """ClickHouse and the stand-in in ``folder`` beside ``cluster``, stopped at the end whatever happens."""
    stack = LocalStack(folder, jars_dir=shared_jars())
    try:
        with contextlib.closing(ClusterWorld(stack, cluster)) as running:
            yield running
    finally:
        stack.down()


@contextlib.contextmanager
def cluster_world_in(folder: Path) -> Iterator[ClusterWorld]:
    """Three brokers and the rest in ``folder``."""
    with cluster_in(folder / "cluster") as cluster, cluster_world(folder, cluster) as world:
        yield world


class ClusterDriver(Driver):
    """One run. One broker is broken at a time: with two of three away nothing can be written."""

    def __init__(self, world: ClusterWorld, name: str, plan: Plan, folder: Path) -> None:
        super().__init__(world, name, plan, folder)
        self._cluster = world.cluster
        self._prefix = name
        self._breaking = asyncio.Lock()

    async def _leader_kill(self, fault: Fault) -> None:
        async with self._breaking:
            broker = await self._leader(fault)
            await asyncio.to_thread(self._cluster.kill, broker)
            self._say(f"kill -9 broker {broker}, which leads {fault.target}")
            await asyncio.sleep(fault.seconds)
            await self._start(broker)

    async def _leader_pause(self, fault: Fault) -> None:
        async with self._breaking:
            broker = await self._leader(fault)
            self._cluster.pause(broker)
            self._say(f"SIGSTOP broker {broker}, which leads {fault.target}")
            await asyncio.sleep(fault.seconds)
            self._cluster.resume(broker)
            self._say(f"SIGCONT broker {broker}")
            await self._all_alive()

    async def _follower_cut(self, fault: Fault) -> None:
        async with self._breaking:
            leader = await self._leader(fault)
            follower = next(broker for broker in BROKERS if broker != leader)
            self._cluster.cut_follower(follower)
            self._say(f"broker {follower} replicates nothing")
            await asyncio.sleep(fault.seconds)
            self._cluster.mend_follower(follower)
            self._say(f"broker {follower} replicates again")

    async def _rolling_restart(self, fault: Fault) -> None:
        async with self._breaking:
            for broker in BROKERS:
                await asyncio.to_thread(self._cluster.shut_down, broker)
                self._say(f"broker {broker} is shut down")
                await self._start(broker)
                await self._in_sync()

    async def _reassign(self, fault: Fault) -> None:
        """Every partition loses a replica, gets it back, and another leader."""
        async with self._breaking:
            topics = [f"{self._prefix}.{topic}" for topic in _TOPICS]
            out = random.Random(str(fault)).choice(BROKERS)
            left = [broker for broker in BROKERS if broker != out]
            await self._cluster.reassign(dict.fromkeys(topics, left))
            self._say(f"broker {out} is no replica any more")
            await asyncio.sleep(fault.seconds)
            await self._cluster.reassign({topic: [out, *left] for topic in topics})
            await self._in_sync()
            await self._cluster.elect_preferred(topics)
            self._say(f"broker {out} leads all")

    async def _leader(self, fault: Fault) -> int:
        topic, _, number = fault.target.partition("/")
        await self._all_alive()
        name = f"{self._prefix}.{topic}"
        await self._until(lambda: self._cluster.leader(name, int(number)) > 0, f"a leader of {name}/{number}")
        return await asyncio.to_thread(self._cluster.leader, name, int(number))

    async def _start(self, broker: int) -> None:
        await asyncio.to_thread(self._cluster.start, broker)
        self._say(f"broker {broker} is back")
        await self._all_alive()

    async def _all_alive(self) -> None:
        await self._until(lambda: len(self._cluster.alive()) == len(BROKERS), "three brokers")

    async def _in_sync(self) -> None:
        topics = [f"{self._prefix}.{topic}" for topic in _TOPICS]
        await self._until(lambda: self._cluster.in_sync(topics), "all replicas in sync")

    async def _until(self, condition: Any, what: str) -> None:
        await asyncio.to_thread(self._cluster.wait_for, condition, what)
