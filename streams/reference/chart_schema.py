"""The part of the Helm chart's `values.schema.json` that is made from the settings."""

from __future__ import annotations

from typing import Any

from streams.core.settings import Settings

# The chart sets these itself: they belong to its ports, volumes and files.
OF_THE_CHART = (
    "CLICKHOUSE_CA_CERT",
    "KAFKA_SSL_CAFILE",
    "KAFKA_SSL_CERTFILE",
    "KAFKA_SSL_KEYFILE",
    "LLM_CA_CERT",
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CLIENT_KEY",
    "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY",
    "TAXONOMY_PATH",
    "API_HOST",
    "API_PORT",
    "HEALTH_HOST",
    "HEALTH_PORT",
    "LABELSTREAM_DATA",
)


def with_settings(schema: dict[str, Any]) -> dict[str, Any]:
    """``schema`` with `$defs.settings` and `$defs.secrets` as the settings are declared now."""
    plain: dict[str, Any] = {}
    secret: dict[str, Any] = {}
    for field, declared in Settings.model_json_schema()["properties"].items():
        name, described = field.upper(), {"description": declared["description"]}
        if name in OF_THE_CHART:
            continue
        form = _form(declared)
        if form.pop("writeOnly", False):
            secret[name] = {**described, "$ref": "#/$defs/secret"}
        else:
            plain[name] = {**described, **form}
    made = {"settings": _map(plain), "secrets": _map(secret)}
    return {**schema, "$defs": {**schema["$defs"], **made}}


def _map(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _form(declared: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of a setting's values. Unset is left out: in a chart, that is a missing key."""
    (form,) = [one for one in declared.get("anyOf", [declared]) if one.get("type") != "null"]
    dropped = ("title", "description", "default", "format")
    return {name: value for name, value in form.items() if name not in dropped}
