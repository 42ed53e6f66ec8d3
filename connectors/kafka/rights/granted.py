"""What the connected user may do with topics and consumer groups, as the brokers say.

Nothing is tried: a broker tells with a description which operations it would allow (Kafka's KIP-430).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    IncompatibleBrokerVersion,
    TopicAuthorizationFailedError,
    for_code,
)

from connectors.kafka.admin_client import AdminClient, from_coordinator
from connectors.kafka.connection import send_to_any_broker
from connectors.kafka.protocol.group_rights import GroupRights
from connectors.kafka.protocol.topic_ids import TopicIdRequest
from connectors.kafka.rights.declared import (
    ALTER_CONFIGS,
    CREATE,
    DESCRIBE,
    DESCRIBE_CONFIGS,
    READ,
    WRITE,
    Resource,
)

# Kafka's AclOperation, which is also the number of its bit.
_OPERATIONS = {
    3: READ,
    4: WRITE,
    5: CREATE,
    8: DESCRIBE,
    10: DESCRIBE_CONFIGS,
    11: ALTER_CONFIGS,
}
_NOT_TOLD = -(2**31)

# The operations that are allowed; None if the brokers do not tell.
Allowed = frozenset[str] | None


def operations(bits: int) -> Allowed:
    """The operations in Kafka's bit field."""
    if bits == _NOT_TOLD:
        return None
    return frozenset(name for bit, name in _OPERATIONS.items() if bits >> bit & 1)


class RightsReader:
    """Reads them by ``client``, or by a client for each call."""

    def __init__(self, connection: dict[str, Any], client: AdminClient | None = None) -> None:
        self._client = client or AdminClient(connection)

    async def read(self, topics: Sequence[str], groups: Sequence[str]) -> dict[tuple[Resource, str], Allowed]:
        """What is allowed on each topic, whether it exists or not, and on each group.

        Raises:
            UnavailableError.
        """
        found: dict[tuple[Resource, str], Allowed] = {}
        async with self._client.use() as admin:
            for name, allowed in (await _of_topics(admin, topics)).items():
                found["topic", name] = allowed
            for group in groups:
                found["group", group] = await _of_group(admin, group)
        return found


async def _of_topics(admin: AIOKafkaAdminClient, topics: Sequence[str]) -> Mapping[str, Allowed]:
    response = await send_to_any_broker(admin._client, TopicIdRequest(list(topics), rights=True))
    found: dict[str, Allowed] = {}
    for code, name, _, _, _, bits, _ in response.topics:
        # Who may not describe a topic is told nothing of it, not even whether it exists.
        found[name] = frozenset() if code == TopicAuthorizationFailedError.errno else operations(bits)
    return found


async def _of_group(admin: AIOKafkaAdminClient, group: str) -> Allowed:
    async def ask(node: int) -> Any:
        answer = (await admin._send_request(GroupRights(group), node)).groups[0]
        if answer[0]:
            raise for_code(answer[0])(group)
        return answer

    try:
        return operations((await from_coordinator(admin, group, ask))[-1])
    except GroupAuthorizationFailedError:
        return frozenset()
    except (IncompatibleBrokerVersion, NotImplementedError):  # it has no version of the request with it
        return None
