"""What is watched while a run goes on: calls of the model, and partitions that do not move."""

from __future__ import annotations

import asyncio
import contextlib
import json
from hashlib import blake2b
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from tests.faults.world import PARTITIONS, World
from tests.waiting import MachineClock

STUCK_SECONDS = 30.0
_LOOK_SECONDS = 0.3


class CallWatch:
    """Finds model calls for texts whose answer had been published.

    What is checked: a text's answer is read from the topic; then the stand-in is asked how often it was
    asked for that text. A greater number at the end of the run is a call that began after the answer was
    published. A call that begins between publication and that look (0.3 s at most, usually) is not seen.
    """

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._kinds = {f"{name}.labeled": "label", f"{name}.augmented": "augment"}
        self._allowed: dict[tuple[str, str], int] = {}
        self._texts: dict[tuple[str, str], str] = {}

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            with contextlib.suppress(Exception):
                await self._follow()
            await asyncio.sleep(_LOOK_SECONDS)  # Kafka was away: read all of it again, know all of it already

    async def _follow(self) -> None:
        consumer = AIOKafkaConsumer(
            *self._kinds, bootstrap_servers=self._world.kafka, auto_offset_reset="earliest"
        )
        await consumer.start()
        try:
            while True:
                new: set[tuple[str, str]] = set()
                for place, messages in (await consumer.getmany(timeout_ms=200)).items():
                    for message in messages:
                        text = json.loads(message.value)["text"]
                        key = (self._kinds[place.topic], _digest(text))
                        self._texts[key] = text
                        new.add(key)
                if new := new - self._allowed.keys():
                    calls = await self._world.standin("GET", "/stats/texts")
                    for kind, digest in new:
                        self._allowed[kind, digest] = calls.get(kind, {}).get(digest, 0)
                await asyncio.sleep(0.05)
        finally:
            await consumer.stop()

    async def repeated(self) -> dict[tuple[str, str], int]:
        """(kind, text) to how many calls too many, at the end. Also checks that the check can see at all."""
        calls: dict[str, dict[str, int]] = await self._world.standin("GET", "/stats/texts")
        blind = [self._texts[key] for key, seen in self._allowed.items() if not seen]
        assert not blind, f"published, yet the stand-in was never asked: {blind[:3]}"
        return {
            (kind, self._texts[kind, digest]): calls[kind][digest] - seen
            for (kind, digest), seen in self._allowed.items()
            if calls[kind][digest] > seen
        }

    @property
    def texts(self) -> int:
        """Of how many (kind, text) the answer was seen."""
        return len(self._allowed)


class LagWatch:
    """Finds partitions with lag whose group commits nothing for 30 s, times of outages left out."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._groups = {
            f"{name}-agents": (f"{name}.rows", f"{name}.labeled"),
            f"{name}-sink": (f"{name}.labeled", f"{name}.augmented", f"{name}.dead-letter"),
        }
        self._moved: dict[tuple[str, TopicPartition], tuple[int, float]] = {}
        self.outage = False  # set by the driver while a fault goes on: nothing has to move then
        self.stuck: list[str] = []
        self.longest = 0.0
        self._clock = MachineClock()

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            with contextlib.suppress(Exception):
                await self._follow()
            self._moved.clear()
            await asyncio.sleep(1.0)

    async def _follow(self) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._world.kafka)
        consumer = AIOKafkaConsumer(bootstrap_servers=self._world.kafka, enable_auto_commit=False)
        await asyncio.gather(admin.start(), consumer.start())
        try:
            while True:
                for group, topics in self._groups.items():
                    await self._look(group, topics, admin, consumer)
                await asyncio.sleep(1.0)
        finally:
            await asyncio.gather(admin.close(), consumer.stop())

    async def _look(self, group: str, topics: tuple[str, ...], admin: Any, consumer: Any) -> None:
        committed = await admin.list_consumer_group_offsets(group)
        places = [TopicPartition(topic, number) for topic in topics for number in range(PARTITIONS)]
        ends = await consumer.end_offsets(places)
        now = self._clock.seconds()
        for place in places:
            at = max(0, committed[place].offset) if place in committed else 0
            before, since = self._moved.get((group, place), (-1, now))
            if at != before or at >= ends[place] or self.outage:
                self._moved[group, place] = (at, now)
                continue
            self.longest = max(self.longest, now - since)
            if now - since > STUCK_SECONDS:
                self.stuck.append(f"{group} {place.topic}/{place.partition} at {at} of {ends[place]}")
                self._moved[group, place] = (at, now)


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=8).hexdigest()
