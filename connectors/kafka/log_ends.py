"""The ends of partitions, for a process that writes to them next.

A message that its leader has appended, and that some in-sync replica lacks, is above the high watermark: no
consumer sees it, ListOffsets does not count it, its producer has no answer. With a slow follower this lasts
until the follower has it or has left the in-sync replicas (`replica.lag.time.max.ms`, 30 s); with fewer
replicas than `min.insync.replicas` it lasts as long as that. Then the message appears. A process that read
the partition meanwhile, and wrote what it had not seen, has written it twice. After an election ListOffsets
returns no offset until the followers have caught up. So the leader is asked for the end of its log, and this
waits until everything up to that end can be read.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import structlog
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import for_code

from connectors.kafka.admin_client import AdminClient
from connectors.kafka.errors import translate
from connectors.kafka.protocol.log_ends import (
    EARLIEST,
    LATEST,
    Epochs,
    ListOffsets,
    OffsetForLeaderEpoch,
)
from connectors.kafka.protocol.topic_ids import TopicIdRequest
from streams.core.errors import RetryableError
from streams.core.records import Partition

log = structlog.get_logger()

_ANSWER_SECONDS = 5.0
_BROKERS_ASKED, _OTHERS_SECONDS = 3, 0.2
_SAY_SECONDS = 3.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


# Kafka's error codes of a leader that is changing.
_SAID = {
    5: "the partition has no leader",
    6: "its leader has changed",
    74: "its leader has changed",
    75: "its leader has changed",
    78: "its new leader cannot tell yet what all in-sync replicas have",
}


class _Leader(NamedTuple):
    node: int
    epoch: int


class LogEnds:
    """Checks ``partitions`` until the end of each is known."""

    def __init__(
        self, client: AdminClient, partitions: Iterable[Partition], others: Iterable[Partition] = ()
    ) -> None:
        """For ``others`` this does not wait until everything that is written can be read."""
        self._client = client
        self._missing = set(partitions)
        self._others = set(others) - self._missing
        self._missing |= self._others
        self._ends: dict[Partition, tuple[int, int]] = {}  # leader epoch, the end of the leader's log
        self._why: dict[Partition, str] = {}
        self._moved = False

    def why(self) -> dict[Partition, str]:
        """What each partition waits for whose end is not known yet."""
        return {partition: self._why.get(partition, "no answer") for partition in self._missing}

    async def look(self) -> AsyncIterator[dict[Partition, tuple[int, int]]]:
        """The first offset of each partition, and the one after the last that was written: one after the
        other, each as soon as all that had been written when it was first requested can be read. Ends after
        the last one. For the others the second offset is the one after the last that can be read.

        Raises:
            AccessError, ConfigurationError: a person must change something.
        """
        if not self._missing:
            return
        pause, began, said = _FIRST_PAUSE, time.monotonic(), False
        while True:
            found = {}
            try:
                async with self._client.use() as admin:
                    found = await self._once(admin._client)
            except RetryableError as error:
                self._why = dict.fromkeys(self._missing, str(error))
            if found:
                self._missing -= found.keys()
                pause = _FIRST_PAUSE
                yield found
            if not self._missing:
                return
            if not said and time.monotonic() - began > _SAY_SECONDS:
                said = True
                partition, reason = next(iter(sorted(self.why().items())))
                log.warning("log_end_awaited", partitions=len(self._missing), first=partition, reason=reason)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _once(self, client: AIOKafkaClient) -> dict[Partition, tuple[int, int]]:
        if self._moved:
            await client.force_metadata_update()  # brokers may have new addresses
        self._moved = False
        leaders = await self._leaders(client)
        others = {partition: leaders.pop(partition) for partition in self._others & leaders.keys()}
        unknown = {p: one for p, one in leaders.items() if self._ends.get(p, (-1,))[0] != one.epoch}
        for partition, end in (await self._ask(client, unknown, _log_ends)).items():
            self._ends[partition] = leaders[partition].epoch, end
        asked = others | {partition: one for partition, one in leaders.items() if partition in self._ends}
        visible = await self._ask(client, asked, _latest)
        reached = {}
        for partition, at in visible.items():
            if partition not in others and at < (end := self._ends[partition][1]):
                self._why[partition] = f"written up to offset {end}, in all in-sync replicas up to {at}"
            else:
                reached[partition] = asked[partition]
        first = await self._ask(client, reached, _earliest)
        return {partition: (at, visible[partition]) for partition, at in first.items()}

    async def _leaders(self, client: AIOKafkaClient) -> dict[Partition, _Leader]:
        """The present leaders. Several brokers are asked, and the newest leader counts: one may hang, and one
        that has just woken may not know yet that it is no longer the leader.
        """
        request = TopicIdRequest(sorted({partition.topic for partition in self._missing}))
        nodes = [broker.nodeId for broker in client.cluster.brokers()]
        asking = [
            asyncio.ensure_future(client.send(node, request))
            for node in random.sample(nodes, min(_BROKERS_ASKED, len(nodes)))
        ]
        try:
            await asyncio.wait(asking, timeout=_ANSWER_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait(asking, timeout=_OTHERS_SECONDS)
        finally:
            for one in asking:
                one.cancel()
        done, _ = await asyncio.wait(asking)
        answers = [one for one in done if not one.cancelled() and one.exception() is None]
        if not answers:
            self._moved = True
            raise next((e for one in done if not one.cancelled() and (e := one.exception())), TimeoutError())
        found: dict[Partition, _Leader] = {}
        for answer in answers:
            for partition, leader in self._leaders_in(answer.result()).items():
                if leader.epoch > found.get(partition, leader._replace(epoch=-1)).epoch:
                    found[partition] = leader
        return {partition: leader for partition, leader in found.items() if leader.node >= 0}

    def _leaders_in(self, answer: Any) -> dict[Partition, _Leader]:
        found: dict[Partition, _Leader] = {}
        for error_code, topic, _, _, partitions, _, _ in answer.topics:
            if error_code:
                self._note([p for p in self._missing if p.topic == topic], error_code)
            for _, number, node, epoch, _, _, _, _ in partitions:
                partition = Partition(topic, number)
                if partition in self._missing:
                    self._why[partition] = "the partition has no leader"
                    found[partition] = _Leader(node, epoch)
        return found

    async def _ask(
        self, client: AIOKafkaClient, leaders: Mapping[Partition, _Leader], what: Any
    ) -> dict[Partition, int]:
        """The leaders' answers to ``what``, as far as they answer."""
        by_node: dict[int, list[Partition]] = {}
        for partition, leader in leaders.items():
            by_node.setdefault(leader.node, []).append(partition)

        async def ask(node: int, partitions: Sequence[Partition]) -> dict[Partition, int]:
            epochs: dict[str, list[tuple[int, int]]] = {}
            for partition in partitions:
                epochs.setdefault(partition.topic, []).append((partition.partition, leaders[partition].epoch))
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    codes = await what(client, node, epochs)
            except Exception as error:
                failed = translate(error)
                if not isinstance(failed, RetryableError):
                    raise failed from error
                self._moved = True
                self._why |= dict.fromkeys(partitions, f"its leader, broker {node}, does not answer")
                return {}
            found = {}
            for partition, (code, offset) in codes.items():
                if code:
                    self._note([partition], code)
                else:
                    found[partition] = offset
            return found

        answers = await asyncio.gather(*(ask(node, found) for node, found in by_node.items()))
        return {partition: offset for answer in answers for partition, offset in answer.items()}

    def _note(self, partitions: Sequence[Partition], code: int) -> None:
        """Record why there is no answer. Raises errors that a person must solve."""
        error, topics = for_code(code), {partition.topic for partition in partitions}
        if code not in _SAID and not isinstance(failed := translate(error(topics)), RetryableError):
            raise failed
        for partition in partitions:
            self._why[partition] = _SAID.get(code, error.__name__)


_Codes = dict[Partition, tuple[int, int]]  # error code, offset


async def _log_ends(client: AIOKafkaClient, node: int, epochs: Epochs) -> _Codes:
    answer = await client.send(node, OffsetForLeaderEpoch(epochs))
    return {
        Partition(topic, number): (code, end)
        for topic, partitions in answer.topics
        for code, number, _, end in partitions
    }


async def _latest(client: AIOKafkaClient, node: int, epochs: Epochs) -> _Codes:
    return await _list_offsets(client, node, epochs, LATEST)


async def _earliest(client: AIOKafkaClient, node: int, epochs: Epochs) -> _Codes:
    return await _list_offsets(client, node, epochs, EARLIEST)


async def _list_offsets(client: AIOKafkaClient, node: int, epochs: Epochs, timestamp: int) -> _Codes:
    answer = await client.send(node, ListOffsets(epochs, timestamp))
    return {
        Partition(topic, number): (code, offset)
        for topic, partitions in answer.topics
        for number, code, _, offset, _ in partitions
    }
