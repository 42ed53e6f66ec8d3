"""The generated pages and documents say what the code does."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator, ValidationError

from streams.core.codec import PAYLOAD_DIGEST, encode, encode_dead_letter, headers_of
from streams.core.environment import load
from streams.core.messages import Alternative, Augmented, DeadLetter, Labeled, Message, RejectedVariant, Row
from streams.core.records import TOPIC_ID
from streams.core.settings import Settings
from streams.core.topics import Topics
from streams.reference.asyncapi import CHANNELS, asyncapi
from streams.reference.json_schema import headers_schema, json_schemas
from streams.reference.pages import describe_env, grouped_settings, messages_page, settings_page

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
ROW = Row(row_id="7", text="где мой заказ", created_at=NOW, polled_at=NOW)
LABELED = Labeled(
    **ROW.model_dump(),
    label="delivery",
    confidence=0.9,
    alternatives=[Alternative(label="refund", confidence=0.1)],
    label_version="v1",
    model="m",
    labeled_at=NOW,
)
AUGMENTED = Augmented(
    **LABELED.model_dump(),
    variants=["когда приедет заказ"],
    rejected=[RejectedVariant(text="где мой заказ", reason="copy")],
    augment_model="m",
    augmented_at=NOW,
)
DIALECT_CHECKED = Draft202012Validator.FORMAT_CHECKER


def as_text(headers: list[tuple[str, bytes]]) -> dict[str, str]:
    return {name: content.decode() for name, content in headers}


# --- settings ---


def test_the_example_file_loads_and_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(describe_env(), "utf-8")
    assert load({}, file) == load({}, None)


def test_every_setting_stands_in_the_example_and_on_the_page_once() -> None:
    names = [name.upper() for name in Settings.model_fields]
    lines = describe_env().splitlines()
    page = settings_page().splitlines()
    for name in names:
        assert sum(line.startswith(f"{name}=") for line in lines) == 1
        assert sum(line.startswith(f"| `{name}` |") for line in page) == 1
    assert sorted(name.upper() for group in grouped_settings().values() for name in group) == sorted(names)
    assert all(grouped_settings().values())


def test_defaults_are_shown_and_secrets_are_empty() -> None:
    lines = describe_env().splitlines()
    assert "CLICKHOUSE_PORT=8123" in lines
    assert "CLICKHOUSE_SECURE=false" in lines
    assert "CLICKHOUSE_PASSWORD=" in lines
    assert "API_KEYS=" in lines
    assert "| `KAFKA_SASL_PASSWORD` | unset | SASL password. *secret* |" in settings_page().splitlines()


# --- schemas ---


@pytest.mark.parametrize("message", [ROW, LABELED, AUGMENTED], ids=lambda message: message.message_type)
def test_what_is_published_satisfies_its_schema(message: Message) -> None:
    schema = json_schemas()[message.message_type]
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema, format_checker=DIALECT_CHECKED).validate(orjson.loads(encode(message)))
    source = None if message.message_type == "row" else ("esk.rows", 3, 17)
    headers = headers_schema(message.message_type)
    Draft202012Validator.check_schema(headers)
    Draft202012Validator(headers).validate(as_text(headers_of(message, source=source)))


@pytest.mark.parametrize(
    "change",
    [{"row_id": ""}, {"label": None}, {"confidence": 1.5}, {"alternatives": [{"label": "x"}]}],
    ids=lambda change: next(iter(change)),
)
def test_the_schema_refuses_what_is_never_published(change: dict[str, Any]) -> None:
    value = orjson.loads(encode(LABELED)) | change
    with pytest.raises(ValidationError):
        Draft202012Validator(json_schemas()["labeled"]).validate(value)


def test_a_newer_writer_s_field_is_accepted() -> None:
    value = orjson.loads(encode(LABELED)) | {"added_later": 1}
    Draft202012Validator(json_schemas()["labeled"]).validate(value)


def test_a_dead_letter_s_headers_satisfy_their_schema() -> None:
    schema = headers_schema("dead-letter")
    Draft202012Validator.check_schema(schema)
    letter = DeadLetter(
        step="label", reason="refused", failed_at=NOW, topic="esk.rows", partition=1, offset=2
    )
    headers = as_text(encode_dead_letter(letter)[1])
    Draft202012Validator(schema).validate(headers)
    del headers["step"]
    with pytest.raises(ValidationError):
        Draft202012Validator(schema).validate(headers)
    assert {PAYLOAD_DIGEST, TOPIC_ID} <= set(schema["properties"])


def test_the_messages_page_names_every_field_and_header() -> None:
    page = messages_page()
    for name in (*Augmented.model_fields, *headers_schema("dead-letter")["properties"], "label-version"):
        assert f"| `{name}` |" in page
    for topic in ("esk.rows", "esk.labeled", "esk.labeled.shadow", "esk.augmented", "esk.dead-letter"):
        assert f"`{topic}`" in page


# --- AsyncAPI ---

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
