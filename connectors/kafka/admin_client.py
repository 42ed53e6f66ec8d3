"""One admin client for all parts of a process that ask the brokers something besides reading and writing.

A new client for each question costs two connections, and with TLS and a login two handshakes.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NotCoordinatorForGroupError,
    for_code,
)
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.structs import OffsetAndMetadata

from connectors.kafka.connection import start_client
from connectors.kafka.errors import translate
from connectors.kafka.protocol.describe_group import DescribeGroup

# A request that is not answered for so long ends its connection, and the next one gets another.
_REQUEST_SECONDS = 10.0
# How often a coordinator is looked for, and the pause before the next time.
_TRIES, _PAUSE = 8, 0.5

T = TypeVar("T")


async def from_coordinator(admin: Any, group: str, ask: Callable[[int], Awaitable[T]]) -> T:
    """The answer of the broker that coordinates ``group``, whose id ``ask`` is given.

    A cluster makes its topic of offsets when it is asked for a group for the first time. Until then, and
    while a broker takes groups over, there is no coordinator. Raises what ``ask`` and ``admin`` raise.
    """
    for _ in range(_TRIES - 1):
        try:
            return await ask(await admin.find_coordinator(group))
        except (GroupCoordinatorNotAvailableError, GroupLoadInProgressError, NotCoordinatorForGroupError):
            await asyncio.sleep(_PAUSE)
    return await ask(await admin.find_coordinator(group))


async def committed_offsets(admin: Any, group: str) -> dict[TopicPartition, OffsetAndMetadata]:
    """All offsets and metadata that ``group`` has committed. Raises as `from_coordinator`."""
    return await from_coordinator(admin, group, partial(read_committed, admin, group))


async def read_committed(
    admin: Any, group: str, node: int, places: Sequence[TopicPartition] | None = None
) -> dict[TopicPartition, OffsetAndMetadata]:
    """What ``group`` has committed, as the broker ``node`` knows it: of ``places``, or everything.

    aiokafka's own method ignores the answer's error. A coordinator that is loading the group sends nothing
    else, which would look like a group without commits.

    Raises:
        BrokerResponseError: the answer's error.
    """
    asked: dict[str, list[int]] | None = None
    if places is not None:
        asked = defaultdict(list)
        for topic, number in places:
            asked[topic].append(number)
    request = OffsetFetchRequest(group, None if asked is None else list(asked.items()))
    answer = await admin._send_request(request, node)
    _raise_refusal(answer.error_code, group)
    found = {}
    for topic, partitions in answer.topics:
        for number, offset, metadata, code in partitions:
            _raise_refusal(code, f"{group}: {topic} {number}")
            found[TopicPartition(topic, number)] = OffsetAndMetadata(offset, metadata)
    return found


async def read_group(admin: Any, group: str, node: int) -> Any:
    """``group`` as the broker ``node`` describes it: see `DescribeGroup`.

    Raises:
        BrokerResponseError: the answer's error.
    """
    answer = await admin._send_request(DescribeGroup(group), node)
    _raise_refusal(answer.groups[0][0], group)
    return answer.groups[0]


def _raise_refusal(code: int, about: str) -> None:
    """Raise aiokafka's error for Kafka's error ``code``, unless that is 0."""
    if code:
        raise for_code(code)(about)


class AdminClient:
    """aiokafka's admin client, started when it is needed. After a failure the next user gets a new one, which
    asks the bootstrap servers where the brokers are.
    """

    def __init__(self, connection: dict[str, Any], *, kept: bool = False) -> None:
        """``kept``: stays connected until `close`; otherwise only while somebody uses it."""
        self._connection = connection
        self._kept = kept
        self._current: AIOKafkaAdminClient | None = None
        self._starting = asyncio.Lock()
        self._users: Counter[AIOKafkaAdminClient] = Counter()

    @asynccontextmanager
    async def use(self) -> AsyncIterator[AIOKafkaAdminClient]:
        """The client, connected.

        Raises:
            UnavailableError, AccessError: as `connectors.kafka.errors` maps what the block raises.
        """
        admin = await self._started()
        try:
            yield admin
        except BaseException as error:
            # Also one who gave up waiting: the connection may be dead, and nothing has noticed it.
            if self._current is admin:
                self._current = None
            if isinstance(error, Exception):
                raise translate(error) from error
            raise
        finally:
            await self._left(admin)

    async def close(self) -> None:
        """Close the connections. Whoever uses them yet closes them."""
        self._kept = False
        admin, self._current = self._current, None
        if admin is not None and not self._users[admin]:
            await admin.close()

    async def _started(self) -> AIOKafkaAdminClient:
        async with self._starting:
            if self._current is None:
                admin = AIOKafkaAdminClient(
                    **self._connection, request_timeout_ms=int(_REQUEST_SECONDS * 1000)
                )
                try:
                    await start_client(admin, admin.close)
                except Exception as error:
                    raise translate(error) from error
                self._current = admin
            self._users[self._current] += 1
            return self._current

    async def _left(self, admin: AIOKafkaAdminClient) -> None:
        self._users[admin] -= 1
        if self._users[admin]:
            return
        del self._users[admin]
        if self._current is admin:
            if self._kept:
                return
            self._current = None
        await admin.close()
