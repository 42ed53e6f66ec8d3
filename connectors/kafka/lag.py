"""The number of messages of the topics, and the lag of the consumer groups."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiokafka import TopicPartition

from connectors.kafka.admin_client import AdminClient, committed_offsets, from_coordinator, read_group
from connectors.kafka.backlog import Backlog, BacklogReader
from connectors.kafka.connection import from_any_broker, start_client, ungrouped_consumer
from connectors.kafka.errors import translate
from streams.core.records import Commit, Partition
from streams.core.topics import ConsumerGroup


@dataclass(frozen=True)
class TopicLag:
    """A group's lag on a topic. ``committed``: the next offset of each partition, -1 for none."""

    committed: Mapping[Partition, int]
    backlogs: Mapping[Partition, Backlog]

    @property
    def messages(self) -> int:
        """All messages that were ever written to the topic."""
        return sum(one.end for one in self.backlogs.values())

    @property
    def kept(self) -> int:
        """Those that retention has left."""
        return self.messages - sum(one.first for one in self.backlogs.values())

    @property
    def done(self) -> int:
        """Those that the group has committed."""
        return sum(max(0, at) for at in self.committed.values())

    @property
    def lag(self) -> int:
        """Those that are left and that the group has not committed."""
        return sum(one.messages for one in self.backlogs.values())

    @property
    def oldest(self) -> float | None:
        """Kafka's time of the oldest of them, seconds since 1970; None without any."""
        return min((one.oldest for one in self.backlogs.values() if one.oldest is not None), default=None)


class LagReader:
    """Reads without joining a group. Use it as an async context manager.

    Asks by ``client``, which its owner closes, or by one of its own.
    """

    def __init__(self, connection: dict[str, Any], client: AdminClient | None = None) -> None:
        self._consumer = ungrouped_consumer(connection)
        self._client = client or AdminClient(connection, kept=True)
        self._owner = client is None
        self._backlogs = BacklogReader(connection)

    async def __aenter__(self) -> LagReader:
        try:
            await start_client(self._consumer, self.__aexit__)
        except Exception as error:
            raise translate(error) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        closing = [self._consumer.stop(), self._backlogs.close()]
        if self._owner:
            closing.append(self._client.close())
        await asyncio.gather(*closing, return_exceptions=True)

    async def read(self, group: ConsumerGroup, *, oldest: bool = True) -> dict[str, TopicLag]:
        """For each topic that ``group`` reads; one that does not exist is omitted.

        ``oldest``: whether to read the time of the oldest message, which costs a fetch.

        Raises:
            UnavailableError, AccessError.
        """
        positions = await self.positions(group.name, group.topics)
        committed = {where: commit.offset for where, commit in positions.items()}
        backlogs = await self._backlogs.read(committed, oldest=oldest)
        lags: dict[str, TopicLag] = {}
        for topic in group.topics:
            mine = {where: at for where, at in committed.items() if where.topic == topic}
            if mine:
                lags[topic] = TopicLag(mine, {where: backlogs[where] for where in mine})
        return lags

    async def positions(self, group: str, topics: Sequence[str]) -> dict[Partition, Commit]:
        """The commit of ``group`` for each partition of ``topics``; offset -1 for none.

        Raises:
            UnavailableError, AccessError.
        """
        names = list(topics)
        async with self._client.use() as admin:
            there = await from_any_broker(admin._client, lambda: admin.describe_topics(names))
            committed = await committed_offsets(admin, group)
        found = {}
        for one in there:
            for part in one["partitions"]:
                at = committed.get(TopicPartition(one["topic"], part["partition"]))
                where = Partition(one["topic"], part["partition"])
                found[where] = Commit(at.offset, at.metadata or "") if at else Commit(-1)
        return found

    async def offsets_at(self, partitions: Sequence[Partition], millis: int) -> dict[Partition, int]:
        """For each partition the first offset of that time (Kafka's, in milliseconds since 1970) or later; if
        there is none, the one after the last.

        Raises:
            UnavailableError, AccessError.
        """
        places = [TopicPartition(*partition) for partition in partitions]
        try:
            found = await self._consumer.offsets_for_times(dict.fromkeys(places, millis))
            ends = await self._consumer.end_offsets(places)
        except Exception as error:
            raise translate(error) from error
        return {Partition(*place): at.offset if (at := found[place]) else ends[place] for place in places}

    async def members(self, groups: Sequence[str]) -> dict[str, int]:
        """For each group the number of its members with partitions.

        Raises:
            UnavailableError, AccessError.
        """
        found = dict.fromkeys(groups, 0)
        async with self._client.use() as admin:
            for group in groups:
                _, _, state, _, _, members = await from_coordinator(
                    admin, group, partial(read_group, admin, group)
                )
                found[group] = len(members) if state == "Stable" else 0
        return found
