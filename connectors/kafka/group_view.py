"""A group member as the brokers see it: its partitions, and their uncommitted messages.

For the watchdog. A process that has lost track of its partitions would report nothing to do. So its consumer
is not asked, but the group, its committed offsets and the ends of the partitions.
"""

from __future__ import annotations

from typing import Any

from aiokafka import TopicPartition
from aiokafka.coordinator.protocol import ConsumerProtocol

from connectors.kafka.admin_client import AdminClient, read_committed, read_group
from connectors.kafka.tail import TailReader
from streams.core.records import Partition


class GroupView:
    """A view of one group, by ``client`` or by a client for each query."""

    def __init__(self, connection: dict[str, Any], group: str, client: AdminClient | None = None) -> None:
        self._client = client or AdminClient(connection)
        self._tail = TailReader(connection, self._client)
        self._group = group

    async def assigned(self, member: str) -> frozenset[Partition]:
        """The partitions that the group has assigned to ``member``; none during a rebalance.

        Raises:
            UnavailableError, AccessError.
        """
        return frozenset(await self._committed(member))

    async def behind(self, member: str) -> dict[Partition, int]:
        """The number of uncommitted messages of each of its partitions that has some.

        Raises:
            UnavailableError, AccessError.
        """
        committed = await self._committed(member)
        bounds = await self._tail.bounds_many(list(committed))
        return {
            where: end - max(committed[where], first)
            for where, (first, end) in bounds.items()
            if end > max(committed[where], first)
        }

    async def _committed(self, member: str) -> dict[Partition, int]:
        """The committed offset of each partition of ``member``; -1 for none."""
        async with self._client.use() as admin:
            node = await admin.find_coordinator(self._group)
            *_, members = await read_group(admin, self._group, node)
            places = [
                TopicPartition(topic, number)
                for found in members
                if found[0] == member and found[4]
                for topic, numbers in ConsumerProtocol.ASSIGNMENT.decode(found[4]).assignment
                for number in numbers
            ]
            if not places:
                return {}
            offsets = await read_committed(admin, self._group, node, places)
        return {Partition(*place): at.offset if (at := offsets.get(place)) else -1 for place in places}
