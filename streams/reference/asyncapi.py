"""The contract with subscribers: an AsyncAPI document of the topics.

Made from `json_schema.py`, `streams/core/topics.py` and the settings. Promises that no class can express
(order, delivery) are stated here, once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from streams.core.messages import Augmented, Labeled, Row
from streams.core.settings import Settings
from streams.core.topics import Topics
from streams.reference.json_schema import headers_schema, json_schemas

_BY_TEXT = (
    "By a hash of the normalised text, not by the key: rows with the same text are in one partition. "
    "A row keeps its partition number from topic to topic."
)
_ANY_ORDER = "None is promised: rows are worked on side by side. Use the times in the message."
_ONCE = (
    "Each row once under each label version, at either isolation level, also after crashes, pauses and "
    "rebalances of labelstream. Nothing is transactional. What is left is in docs/guarantees.md."
)


@dataclass(frozen=True)
class Channel:
    """The promises of a topic to its subscribers. ``topic`` returns its name; ``message`` is None if the
    value is not a message of `streams/core/messages.py`.
    """

    id: str
    topic_of: str
    message: type[Row] | None
    key: str
    partitioning: str
    ordering: str
    delivery: str
    internal: bool = False

    def topic(self, topics: Topics) -> str:
        """The topic's full name."""
        return str(getattr(topics, self.topic_of))


_ROW_KEY = "The row_id, UTF-8."
CHANNELS: tuple[Channel, ...] = (
    Channel(
        "rows",
        "rows",
        Row,
        _ROW_KEY,
        _BY_TEXT,
        "As polled, nearly that of created_at; late rows come later.",
        "Each source row once, at either isolation level. What is left is in docs/guarantees.md.",
    ),
    Channel("replay", "replay", Row, _ROW_KEY, _BY_TEXT, _ANY_ORDER, _ONCE, internal=True),
    Channel("labeled", "labeled", Labeled, _ROW_KEY, _BY_TEXT, _ANY_ORDER, _ONCE),
    Channel("labeledShadow", "shadow", Labeled, _ROW_KEY, _BY_TEXT, _ANY_ORDER, _ONCE),
    Channel("augmented", "augmented", Augmented, _ROW_KEY, _BY_TEXT, _ANY_ORDER, _ONCE),
    Channel(
        "deadLetter",
        "dead_letter",
        None,
        "The key of the message that was given up, where it had one.",
        "The partition number of the message that was given up.",
        _ANY_ORDER,
        "Each message that a step gave up once, for that step.",
    ),
    Channel(
        "cursor",
        "cursor",
        None,
        "Internal.",
        "One partition.",
        "As written.",
        "Internal: the poller's position. Do not read or write it.",
        internal=True,
    ),
    Channel(
        "versions",
        "versions",
        None,
        "Internal.",
        "One partition.",
        "As written.",
        "Internal: what the label versions are made of. Do not write it.",
        internal=True,
    ),
    Channel(
        "review",
        "review",
        None,
        "Internal.",
        "One partition.",
        "As written.",
        "Internal: who reviews which row. Do not write it.",
        internal=True,
    ),
)


def asyncapi(topics: Topics, settings: Settings) -> dict[str, Any]:
    """An AsyncAPI 3.0 document of every topic, with the partitions and retention of ``settings``.

    Kafka's address is a server variable; no secret is in it.
    """
    from connectors.kafka.topics.declared import topic_config

    declared = {topic.name: topic for topic in topics.all()}
    replicas = settings.topic_replication_factor
    channels: dict[str, Any] = {}
    for channel in CHANNELS:
        topic = declared[channel.topic(topics)]
        config = topic_config(topic, settings, replicas or 1)
        kafka: dict[str, Any] = {
            "topic": topic.name,
            "partitions": topic.partitions or settings.topic_partitions,
            "topicConfiguration": _typed_config(config),
            "bindingVersion": "0.5.0",
        }
        if replicas is not None:
            kafka["replicas"] = replicas
        channels[channel.id] = {
            "address": topic.name,
            "title": topic.purpose,
            "description": _description(channel, topic.purpose, config),
            "servers": [{"$ref": "#/servers/kafka"}],
            "messages": {_message_id(channel): {"$ref": f"#/components/messages/{_message_id(channel)}"}},
            "bindings": {"kafka": kafka},
            "x-key": channel.key,
            "x-partitioning": channel.partitioning,
            "x-ordering": channel.ordering,
            "x-delivery": channel.delivery,
            "x-retention": "compacted" if topic.compacted else f"{settings.topic_retention_days} days",
            "x-compaction": topic.compacted,
            "x-internal": channel.internal,
        }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "labelstream",
            "version": Row.schema_version,
            "description": "Rows of a ClickHouse table, labelled and augmented as they arrive.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"kafka": _server(settings)},
        "channels": channels,
        "operations": {
            f"send{channel.id[0].upper()}{channel.id[1:]}": {
                "action": "send",
                "channel": {"$ref": f"#/channels/{channel.id}"},
                "summary": f"labelstream publishes {declared[channel.topic(topics)].purpose}.",
            }
            for channel in CHANNELS
            if not channel.internal
        },
        "components": {"messages": _messages()} | _security(settings),
    }


def _messages() -> dict[str, Any]:
    messages: dict[str, Any] = {}
    schemas = json_schemas()
    for channel in CHANNELS:
        message: dict[str, Any] = {
            "name": _message_id(channel),
            "bindings": {"kafka": {"key": {"type": "string", "description": channel.key}}},
        }
        if channel.message is not None:
            kind = channel.message.message_type
            message["contentType"] = "application/json"
            message["headers"] = headers_schema(kind)
            message["payload"] = _multi_format(schemas[kind])
            message["summary"] = schemas[kind]["description"]
        elif channel.id == "deadLetter":
            message["contentType"] = "application/octet-stream"
            message["headers"] = headers_schema("dead-letter")
            message["summary"] = (
                "The received bytes, unchanged; empty where they are too large for the topic."
            )
        else:
            message["summary"] = channel.delivery
        messages[_message_id(channel)] = message
    return messages


def _multi_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    # Local references must refer to this schema, not to the AsyncAPI document around it.
    return {
        "schemaFormat": "application/schema+json;version=draft-2020-12",
        "schema": _resolved(schema, schema),
    }


def _resolved(part: Any, root: Mapping[str, Any]) -> Any:
    if isinstance(part, Mapping):
        if "$ref" in part:
            return _resolved(root["$defs"][part["$ref"].rsplit("/", 1)[-1]], root)
        return {name: _resolved(value, root) for name, value in part.items() if name != "$defs"}
    return [_resolved(item, root) for item in part] if isinstance(part, list) else part


def _message_id(channel: Channel) -> str:
    return channel.message.message_type if channel.message is not None else channel.id


def _description(channel: Channel, purpose: str, config: Mapping[str, str]) -> str:
    policy = config["cleanup.policy"]
    return f"{purpose[0].upper()}{purpose[1:]}. Delivery: {channel.delivery} Cleanup policy: {policy}."


def _typed_config(config: Mapping[str, str]) -> dict[str, Any]:
    # The Kafka binding of AsyncAPI 3 has these two; in-sync replicas are a matter of the operator.
    typed: dict[str, Any] = {"cleanup.policy": config["cleanup.policy"].split(",")}
    if "retention.ms" in config:
        typed["retention.ms"] = int(config["retention.ms"])
    return typed


def _server(settings: Settings) -> dict[str, Any]:
    secure = settings.kafka_security_protocol != "PLAINTEXT"
    server: dict[str, Any] = {
        "host": "{bootstrap}",
        "protocol": "kafka-secure" if secure else "kafka",
        "description": f"Kafka, {settings.kafka_security_protocol}.",
        "variables": {"bootstrap": {"description": "KAFKA_BOOTSTRAP_SERVERS: host:port, comma separated."}},
    }
    if settings.kafka_bootstrap_servers:
        server["variables"]["bootstrap"]["default"] = settings.kafka_bootstrap_servers
    if settings.kafka_security_protocol.startswith("SASL"):
        server["security"] = [{"$ref": "#/components/securitySchemes/sasl"}]
    return server


def _security(settings: Settings) -> dict[str, Any]:
    if not settings.kafka_security_protocol.startswith("SASL"):
        return {}
    schemes = {"PLAIN": "plain", "SCRAM-SHA-256": "scramSha256", "SCRAM-SHA-512": "scramSha512"}
    return {"securitySchemes": {"sasl": {"type": schemes[settings.kafka_sasl_mechanism]}}}
