"""How much the topics hold, and how far the consumer groups are behind."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from connectors.kafka.errors import translate
from connectors.kafka.protocol.describe_group import DescribeGroup
from streams.core.records import Commit, Partition


@dataclass(frozen=True)
class TopicLag:
    """``messages``: what was ever written; ``kept``: what retention left of it; ``lag``: of that, what
    the group has not committed yet."""

    messages: int
    kept: int
    lag: int


class LagReader:
    """Looks without joining any group. Use as an async context manager."""

    def __init__(self, connection: dict[str, Any]) -> None:
        self._consumer = AIOKafkaConsumer(**connection, group_id=None, enable_auto_commit=False)
        self._admin = AIOKafkaAdminClient(**connection)

    async def __aenter__(self) -> LagReader:
        try:
            await asyncio.gather(self._consumer.start(), self._admin.start())
        except Exception as error:
            await self.__aexit__()
            raise translate(error) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(self._consumer.stop(), self._admin.close(), return_exceptions=True)

    async def read(self, topics: Sequence[tuple[str, str | None]]) -> dict[str, TopicLag]:
        """For each of ``topics`` (name, and the group that reads it); one that does not exist is left out.

        Raises:
            UnavailableError, AccessError.
        """
        try:
            there = await self._admin.describe_topics([topic for topic, _ in topics])
            places = {
                one["topic"]: [TopicPartition(one["topic"], part["partition"]) for part in one["partitions"]]
                for one in there
                if one["error_code"] == 0
            }
            wanted = [(topic, group) for topic, group in topics if topic in places]
            every = [place for found in places.values() for place in found]
            first = await self._consumer.beginning_offsets(every) if every else {}
            end = await self._consumer.end_offsets(every) if every else {}
            groups = {group for _, group in wanted if group}
            committed = {group: await self._admin.list_consumer_group_offsets(group) for group in groups}
        except Exception as error:
            raise translate(error) from error
        lags = {}
        for topic, group in wanted:
            behind = 0
            for place in places[topic] if group else ():
                at = committed[group or ""].get(place)
                behind += max(0, end[place] - max(at.offset if at else -1, first[place]))
            ends = sum(end[place] for place in places[topic])
            lags[topic] = TopicLag(ends, ends - sum(first[place] for place in places[topic]), behind)
        return lags

    async def positions(self, group: str, topics: Sequence[str]) -> dict[Partition, Commit]:
        """What ``group`` has committed for each partition of ``topics``; offset -1 for nothing.

        Raises:
            UnavailableError, AccessError.
        """
        try:
            there = await self._admin.describe_topics(list(topics))
            committed = await self._admin.list_consumer_group_offsets(group)
        except Exception as error:
            raise translate(error) from error
        found = {}
        for one in there:
            for part in one["partitions"]:
                at = committed.get(TopicPartition(one["topic"], part["partition"]))
                where = Partition(one["topic"], part["partition"])
                found[where] = Commit(at.offset, at.metadata or "") if at else Commit(-1)
        return found

    async def offsets_at(self, partitions: Sequence[Partition], millis: int) -> dict[Partition, int]:
        """For each the first offset of that time (Kafka's, in milliseconds since 1970) or later; where there
        is none, the one after the last.

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
        """For each group how many members it has that own something.

        Raises:
            UnavailableError, AccessError.
        """
        found = dict.fromkeys(groups, 0)
        try:
            for group in groups:
                node = await self._admin.find_coordinator(group)
                answer = await self._admin._send_request(DescribeGroup(group), node)
                for _, name, state, _, _, members in answer.groups:
                    found[name] = len(members) if state == "Stable" else 0
        except Exception as error:
            raise translate(error) from error
        return found
