"""Topics: created once by `init`, compared by `check`, and distinguished from a later topic of the
same name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    IncompatibleBrokerVersion,
    InvalidConfigurationError,
    InvalidRequestError,
    KafkaError,
    LeaderNotAvailableError,
    PolicyViolationError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)

from connectors.kafka.admin_client import AdminClient
from connectors.kafka.connection import from_any_broker, send_to_any_broker
from connectors.kafka.errors import lacking, translate
from connectors.kafka.protocol.alter_configs import AlterTopicConfigs
from connectors.kafka.protocol.topic_ids import TopicIdRequest
from connectors.kafka.rights.declared import ALTER_CONFIGS, CREATE, DESCRIBE, DESCRIBE_CONFIGS
from connectors.kafka.topics.declared import (
    DEFAULT_REPLICAS,
    FoundTopic,
    TopicPlan,
    differences,
    refuse_other_count,
    topic_config,
)
from streams.core.errors import ConfigurationError, UnavailableError
from streams.core.settings import Settings
from streams.core.topics import Topics

log = structlog.get_logger()

# What brokers answer who take a setting from nobody, or not this one: managed ones, mostly.
_REFUSALS = (
    PolicyViolationError,
    InvalidConfigurationError,
    InvalidRequestError,
    ClusterAuthorizationFailedError,
)

# What a broker answers that has not heard of a topic, or of a leader.
_UNKNOWN = (UnknownTopicOrPartitionError, LeaderNotAvailableError)
# How long new topics are waited for, and the pause before a broker is asked again.
_KNOWN_SECONDS, _KNOWN_PAUSE = 30.0, 0.05


class Admin:
    """Kafka administration, by ``client`` or by a client for each call."""

    def __init__(self, connection: dict[str, Any], client: AdminClient | None = None) -> None:
        self._client = client or AdminClient(connection)

    async def topic_id(self, topic: str) -> UUID:
        """Implements `streams.ports.kafka.TopicIds`."""
        return (await self.topic_ids([topic]))[topic]

    async def topic_ids(self, topics: Sequence[str]) -> dict[str, UUID]:
        async with self._client.use() as admin:
            response = await send_to_any_broker(admin._client, TopicIdRequest(list(topics)))
        found: dict[str, UUID] = {}
        for error_code, name, topic_id, _, _, _, _ in response.topics:
            _refuse_hidden(error_code, name)
            if error_code != 0:
                raise UnavailableError(
                    f"topic {name}: {for_code(error_code).__name__}; `labelstream init` makes the topics",
                    setting="TOPIC_PREFIX",
                )
            found[name] = UUID(bytes=bytes(topic_id))
        return found

    async def find(self, names: Sequence[str], *, config: bool = True) -> dict[str, FoundTopic]:
        """Those of ``names`` that exist; with their ``config``, which needs a right of its own.

        Raises:
            AccessError: one may not be described, so that nobody tells whether it exists; or its config not.
            UnavailableError.
        """
        found: dict[str, FoundTopic] = {}
        async with self._client.use() as admin:
            response = await send_to_any_broker(admin._client, TopicIdRequest(list(names)))
            for error_code, name, topic_id, _, partitions, _, _ in response.topics:
                _refuse_hidden(error_code, name)
                if error_code != 0:
                    continue
                settings = await _config(admin, name) if config else {}
                found[name] = FoundTopic(
                    name,
                    UUID(bytes=bytes(topic_id)),
                    len(partitions),
                    settings,
                    min((len(one[4]) for one in partitions), default=1),
                    min((len(one[5]) for one in partitions), default=1),
                )
        return found

    async def plan_topics(self, settings: Settings) -> TopicPlan:
        """What `create_topics` would do.

        Raises:
            ConfigurationError: a topic has another number of partitions, or there are too few brokers.
            UnavailableError, AccessError.
        """
        topics = Topics(settings.topic_prefix).all()
        found = await self.find([topic.name for topic in topics])
        changes = []
        for topic in topics:
            if topic.name in found:
                refuse_other_count(found[topic.name].partitions, topic, settings)
                changes += differences(found[topic.name], topic, settings)
        async with self._client.use() as admin:
            brokers = len((await admin.describe_cluster())["brokers"])
        replicas = settings.topic_replication_factor or min(DEFAULT_REPLICAS, brokers)
        if replicas > brokers:
            raise ConfigurationError(
                f"TOPIC_REPLICATION_FACTOR is {replicas}, but there are {brokers} brokers",
                setting="TOPIC_REPLICATION_FACTOR",
                fix=f"set it to at most {brokers}, or leave it out",
            )
        made = [
            NewTopic(
                topic.name,
                topic.partitions or settings.topic_partitions,
                replicas,
                topic_configs=topic_config(topic, settings, replicas),
            )
            for topic in topics
            if topic.name not in found
        ]
        return TopicPlan(tuple(made), tuple(changes))

    async def create_topics(self, settings: Settings) -> TopicPlan:
        """Create the missing topics, and change the settings of others as far as nothing can be lost by it;
        returns what was done, when the brokers know the topics.

        Raises:
            ConfigurationError: as `plan_topics`.
            UnavailableError, AccessError.
        """
        plan, refused = await self.plan_topics(settings), dict[str, str]()
        async with self._client.use() as admin:
            if plan.made:
                response = await admin.create_topics(list(plan.made))
                for name, code, *rest in response.topic_errors:
                    error = for_code(code)
                    if code == TopicAuthorizationFailedError.errno:
                        raise lacking(CREATE, "topic", name)
                    # Two `init` at a time: the other one was first.
                    if code != 0 and error is not TopicAlreadyExistsError:
                        raise translate(error(f"topic {name}: {rest[0] if rest else ''}"))
                await _known(admin, [topic.name for topic in plan.made])
            if altered := plan.altered:
                refused = await _alter(admin, altered)
        changes = tuple(
            replace(change, kept=refused[change.topic])
            if change.topic in refused and not change.kept
            else change
            for change in plan.changes
        )
        for change in changes:
            log.info("topic_setting_kept" if change.kept else "topic_setting_changed", **change.told())
        return TopicPlan(plan.made, changes)


async def _known(admin: AIOKafkaAdminClient, names: Sequence[str]) -> None:
    """Wait until each broker that answers knows leaders of all partitions: brokers hear of a new topic after
    its controller, a busy one seconds later. Then a command or role could find it missing.
    """
    client = admin._client
    request, waiting = TopicIdRequest(list(names)), {one.nodeId for one in client.cluster.brokers()}
    try:
        async with asyncio.timeout(_KNOWN_SECONDS):
            while True:
                for node in list(waiting):
                    try:
                        answer = await client.send(node, request)
                    except KafkaError:
                        waiting.discard(node)  # it is down, and has everything when it returns
                        continue
                    if not any(_unknown(code, partitions) for code, _, _, _, partitions, *_ in answer.topics):
                        waiting.discard(node)
                if not waiting:
                    return
                await asyncio.sleep(_KNOWN_PAUSE)
    except TimeoutError:
        log.warning("topics_not_known_yet", topics=len(names), brokers=sorted(waiting))


def _unknown(code: int, partitions: Sequence[Any]) -> bool:
    """Whether this is a broker's answer about a topic or a leader that it has not heard of."""
    return for_code(code) in _UNKNOWN or any(for_code(one[0]) in _UNKNOWN for one in partitions)


async def _alter(admin: AIOKafkaAdminClient, altered: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Change the settings of topics; returns why some are kept, by topic: everything works as it is."""
    refused: dict[str, str] = {}
    try:
        response = await send_to_any_broker(admin._client, AlterTopicConfigs(altered))
    except (IncompatibleBrokerVersion, NotImplementedError):
        return dict.fromkeys(altered, "the brokers cannot change single settings")
    for code, reason, _, name in response.responses:
        error = for_code(code)
        if code == TopicAuthorizationFailedError.errno:
            refused[name] = f"the right {ALTER_CONFIGS} is missing"
        elif error in _REFUSALS:
            refused[name] = f"the brokers refuse it: {reason or error.__name__}"
        elif code != 0:
            raise translate(error(f"topic {name}: {reason or ''}"))
    return refused


async def _config(admin: AIOKafkaAdminClient, name: str) -> dict[str, str]:
    asked = [ConfigResource(ConfigResourceType.TOPIC, name)]
    responses = await from_any_broker(admin._client, lambda: admin.describe_configs(asked))
    return topic_configs(responses)[name]


def topic_configs(responses: Iterable[Any]) -> dict[str, dict[str, str]]:
    """The settings of each topic in aiokafka's answers to `describe_configs`.

    Raises:
        AccessError: they may not be read; the answer has none then.
    """
    found: dict[str, dict[str, str]] = {}
    for response in responses:
        for code, _, _, name, entries, *_ in response.resources:
            if code == TopicAuthorizationFailedError.errno:
                raise lacking(DESCRIBE_CONFIGS, "topic", name)
            found[name] = {entry[0]: entry[1] for entry in entries}
    return found


def _refuse_hidden(code: int, topic: str) -> None:
    if code == TopicAuthorizationFailedError.errno:
        raise lacking(DESCRIBE, "topic", topic)
