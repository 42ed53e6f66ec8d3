"""Topics: created once by `init`, compared by `check`, and distinguished from a later topic of the
same name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, TopicAuthorizationFailedError, for_code

from connectors.kafka.admin_client import AdminClient
from connectors.kafka.connection import from_any_broker, send_to_any_broker
from connectors.kafka.errors import lacking, translate
from connectors.kafka.protocol.topic_ids import TopicIdRequest
from connectors.kafka.rights.declared import CREATE, DESCRIBE, DESCRIBE_CONFIGS
from streams.core.errors import ConfigurationError, UnavailableError
from streams.core.settings import Settings
from streams.core.topics import Topic, Topics

log = structlog.get_logger()

_DAY_MS = 24 * 3600 * 1000
_REPLICAS = 3
# As the producers compress (`sending.batch_sizes.new_batch`): so the brokers keep what they get.
_COMPRESSION = "zstd"


@dataclass(frozen=True)
class FoundTopic:
    """A topic as the brokers describe it."""

    name: str
    topic_id: UUID
    partitions: int
    config: Mapping[str, str]


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
                found[name] = FoundTopic(name, UUID(bytes=bytes(topic_id)), len(partitions), settings)
        return found

    async def create_topics(self, settings: Settings) -> list[str]:
        """Create the missing topics; returns their names.

        Raises:
            ConfigurationError: a topic exists with another number of partitions.
            UnavailableError, AccessError.
        """
        topics = Topics(settings.topic_prefix)
        found = await self.find([topic.name for topic in topics.all()])
        for topic in topics.all():
            if topic.name in found:
                refuse_other_count(found[topic.name].partitions, topic, settings)
                if note := other_compression(found[topic.name]):
                    log.warning("topic_compressed_again", reason=note)
        async with self._client.use() as admin:
            brokers = len((await admin.describe_cluster())["brokers"])
            replicas = settings.topic_replication_factor or min(_REPLICAS, brokers)
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
                for topic in topics.all()
                if topic.name not in found
            ]
            if made:
                response = await admin.create_topics(made)
                for name, code, *rest in response.topic_errors:
                    error = for_code(code)
                    # Two `init` at a time: the other one was first.
                    if code == TopicAuthorizationFailedError.errno:
                        raise lacking(CREATE, "topic", name)
                    if code != 0 and error is not TopicAlreadyExistsError:
                        raise translate(error(f"topic {name}: {rest[0] if rest else ''}"))
        return [topic.name for topic in made]


def topic_config(topic: Topic, settings: Settings, replicas: int) -> dict[str, str]:
    """The configuration for creating ``topic``."""
    in_sync = settings.topic_min_insync_replicas or max(1, replicas - 1)
    config = {"min.insync.replicas": str(min(in_sync, replicas)), "compression.type": _COMPRESSION}
    if topic.compacted:
        return config | {"cleanup.policy": "compact", "segment.ms": str(_DAY_MS)}
    return config | {
        "cleanup.policy": "delete",
        "retention.ms": str(settings.topic_retention_days * _DAY_MS),
    }


def refuse_other_count(partitions: int, topic: Topic, settings: Settings) -> None:
    """A row's partition is a hash modulo the count. With another count equal texts would be in different
    partitions, and a step would look for its output in the wrong one.

    Raises:
        ConfigurationError: the count differs from the settings.
    """
    wanted = topic.partitions or settings.topic_partitions
    if partitions != wanted:
        raise ConfigurationError(
            f"topic {topic.name} has {partitions} partitions, TOPIC_PARTITIONS says {wanted}",
            setting="TOPIC_PARTITIONS",
            fix=f"set TOPIC_PARTITIONS={partitions}, or use another TOPIC_PREFIX: the count is fixed once "
            "the topics are made",
        )


def refuse_other_config(found: FoundTopic, topic: Topic) -> None:
    """A compacted topic would lose messages that replays and late subscribers need.

    Raises:
        ConfigurationError: the topic has another clean-up policy than it should.
    """
    wanted = "compact" if topic.compacted else "delete"
    policy = found.config.get("cleanup.policy", wanted)
    if policy != wanted:
        raise ConfigurationError(
            f"topic {topic.name} has cleanup.policy={policy}, it must be {wanted}",
            setting="TOPIC_PREFIX",
            fix=f"set it with Kafka's own tools: kafka-configs --alter --add-config cleanup.policy={wanted}",
        )


def other_compression(found: FoundTopic) -> str:
    """What to change on a topic that was made by hand; empty if it keeps what the producers compress."""
    kind = found.config.get("compression.type", "producer")
    if kind in ("producer", _COMPRESSION):
        return ""
    return (
        f"{found.name} has compression.type={kind}, so that brokers undo the compression of each batch: "
        f"kafka-configs --alter --add-config compression.type={_COMPRESSION}"
    )


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
