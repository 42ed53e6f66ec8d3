"""The AsyncAPI document."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
from jsonschema import Draft202012Validator

from streams.core.environment import load
from streams.core.topics import Topics
from streams.reference.asyncapi import CHANNELS, asyncapi

# The parts of AsyncAPI 3.0 that the document uses; its own schema is in no package here.
_REF = {
    "type": "object",
    "properties": {"$ref": {"type": "string", "pattern": "^#/"}},
    "required": ["$ref"],
    "additionalProperties": False,
}
_SCHEMA_OBJECT = {"type": "object", "properties": {"type": {"const": "object"}}, "required": ["type"]}
ASYNCAPI = {
    "type": "object",
    "additionalProperties": False,
    "required": ["asyncapi", "info"],
    "properties": {
        "asyncapi": {"const": "3.0.0"},
        "info": {"type": "object", "required": ["title", "version"]},
        "defaultContentType": {"type": "string"},
        "servers": {"additionalProperties": {"type": "object", "required": ["host", "protocol"]}},
        "channels": {
            "propertyNames": {"pattern": r"^[A-Za-z0-9._-]+$"},
            "additionalProperties": {
                "type": "object",
                "additionalProperties": False,
                "required": ["address", "messages"],
                "patternProperties": {"^x-": True},
                "properties": {
                    "address": {"type": "string"},
                    "title": {"type": "string"},
                    "description": {"type": "string"},
                    "servers": {"type": "array", "items": _REF},
                    "messages": {"minProperties": 1, "additionalProperties": _REF},
                    "bindings": {
                        "properties": {
                            "kafka": {
                                "additionalProperties": False,
                                "properties": {
                                    "topic": {"type": "string"},
                                    "partitions": {"type": "integer", "minimum": 1},
                                    "replicas": {"type": "integer", "minimum": 1},
                                    "topicConfiguration": {
                                        "additionalProperties": False,
                                        "properties": {
                                            "cleanup.policy": {
                                                "type": "array",
                                                "items": {"enum": ["compact", "delete"]},
                                            },
                                            "retention.ms": {"type": "integer", "minimum": -1},
                                        },
                                    },
                                    "bindingVersion": {"const": "0.5.0"},
                                },
                            }
                        }
                    },
                },
            },
        },
        "operations": {
            "additionalProperties": {
                "additionalProperties": False,
                "required": ["action", "channel"],
                "properties": {
                    "action": {"enum": ["send", "receive"]},
                    "channel": _REF,
                    "summary": {"type": "string"},
                },
            }
        },
        "components": {
            "additionalProperties": False,
            "properties": {
                "messages": {
                    "additionalProperties": {
                        "additionalProperties": False,
                        "properties": {
                            "name": {"type": "string"},
                            "contentType": {"type": "string"},
                            "summary": {"type": "string"},
                            "headers": _SCHEMA_OBJECT,
                            "payload": {
                                "type": "object",
                                "required": ["schemaFormat", "schema"],
                                "properties": {"schema": _SCHEMA_OBJECT},
                            },
                            "bindings": {"type": "object"},
                        },
                    }
                },
                "securitySchemes": {"additionalProperties": {"type": "object", "required": ["type"]}},
            },
        },
    },
}


def references(part: Any) -> list[str]:
    if isinstance(part, dict):
        own = [part["$ref"]] if "$ref" in part else []
        return own + [found for value in part.values() for found in references(value)]
    return [found for item in part for found in references(item)] if isinstance(part, list) else []


def resolve(document: dict[str, Any], reference: str) -> Any:
    found: Any = document
    for name in reference.removeprefix("#/").split("/"):
        found = found[name]
    return found


def test_the_asyncapi_document_has_the_form_of_asyncapi_3() -> None:
    document = orjson.loads(orjson.dumps(asyncapi(Topics(), load({}, None))))
    Draft202012Validator.check_schema(ASYNCAPI)
    Draft202012Validator(ASYNCAPI).validate(document)
    assert all(resolve(document, reference) for reference in references(document))


def test_the_asyncapi_document_tells_all_that_a_subscriber_asks() -> None:
    settings = load({"TOPIC_PREFIX": "cc", "TOPIC_PARTITIONS": "6", "TOPIC_RETENTION_DAYS": "2"}, None)
    topics = Topics("cc")
    channels = asyncapi(topics, settings)["channels"]
    assert {channel["address"] for channel in channels.values()} == {topic.name for topic in topics.all()}
    for channel in channels.values():
        for question in ("x-key", "x-partitioning", "x-ordering", "x-delivery", "x-retention"):
            assert channel[question]
    labeled = channels["labeled"]["bindings"]["kafka"]
    assert (labeled["topic"], labeled["partitions"]) == ("cc.labeled", 6)
    assert labeled["topicConfiguration"] == {"cleanup.policy": ["delete"], "retention.ms": 2 * 86_400_000}
    cursor = channels["cursor"]["bindings"]["kafka"]
    assert (cursor["partitions"], cursor["topicConfiguration"]) == (1, {"cleanup.policy": ["compact"]})
    assert channels["cursor"]["x-compaction"] is True
    assert len(channels) == len(CHANNELS)


def test_the_asyncapi_document_shows_no_secret(tmp_path: Path) -> None:
    settings = load(
        {
            "KAFKA_BOOTSTRAP_SERVERS": "kafka.internal:9093",
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SASL_USERNAME": "hunter1",
            "KAFKA_SASL_PASSWORD": "hunter2",
        },
        None,
    )
    document = asyncapi(Topics(), settings)
    text = orjson.dumps(document).decode()
    assert "hunter" not in text
    assert document["servers"]["kafka"]["protocol"] == "kafka-secure"
    assert document["components"]["securitySchemes"]["sasl"] == {"type": "scramSha512"}
    Draft202012Validator(ASYNCAPI).validate(orjson.loads(text))
