"""The declarations as pages for people: `.env.example`, the settings and the messages.

Everything here is made from the declarations in `streams/core/settings.py` and `streams/core/messages.py`, so
the pages always agree with the code. Documents for programs are in `streams/reference/json_schema.py` and
`streams/reference/asyncapi.py`.
"""

from __future__ import annotations

import textwrap
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from streams.core.environment import shown_default
from streams.core.settings import Settings
from streams.core.topics import Topics
from streams.observability.metrics import METRICS, Declared
from streams.reference.asyncapi import CHANNELS
from streams.reference.json_schema import headers_schema, json_schemas

_WIDTH = 100

# A group's title, and the prefixes of its settings' names. The first match counts.
_GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("ClickHouse: the source table and the result tables", ("clickhouse_",)),
    ("Kafka", ("kafka_", "topic_")),
    ("LLM endpoints (OpenAI-compatible)", ("llm_", "augment_")),
    ("What is read, and when", ("min_text_", "poll_", "taxonomy_", "label_version")),
    ("Traces (OpenTelemetry)", ("otel_",)),
    ("The service", ("",)),
)


def grouped_settings() -> dict[str, list[str]]:
    """The settings' field names by group title, in the order of their declaration."""
    groups: dict[str, list[str]] = {title: [] for title, _ in _GROUPS}
    for name in Settings.model_fields:
        title = next(title for title, beginnings in _GROUPS if name.startswith(beginnings))
        groups[title].append(name)
    return groups


def describe_env() -> str:
    """The text of `.env.example`: every setting with its description and default; secrets are empty."""
    lines = [
        "# Every setting of labelstream at its default. Copy it to .env and change what differs, or set the",
        "# same names in the environment, which goes first. Empty means unset.",
    ]
    for title, names in grouped_settings().items():
        lines += ["", f"# ===== {title} ====="]
        for name in names:
            field = Settings.model_fields[name]
            form = _form(field)
            about = f"{field.description} [{form}]" if form else str(field.description)
            lines += ["", *textwrap.wrap(about, _WIDTH, initial_indent="# ", subsequent_indent="# ")]
            lines.append(f"{name.upper()}={shown_default(name)}")
    return "\n".join(lines) + "\n"


def settings_page() -> str:
    """The settings as a Markdown page."""
    lines = [
        "# Settings",
        "",
        "Made from `streams/core/settings.py` by `make generate`; do not edit.",
        "",
        "Settings come from the environment and from a file `.env` in the working folder; the environment",
        "goes first, an empty value means unset. A malformed value is refused with the setting's name, an",
        "unknown name in `.env` too. Secrets are never logged. `labelstream describe env` prints this list",
        "as a `.env` file, `labelstream check` tries what is set.",
    ]
    for title, names in grouped_settings().items():
        lines += ["", f"## {title}", "", "| Setting | Default | Meaning |", "|---|---|---|"]
        for name in names:
            field = Settings.model_fields[name]
            default = shown_default(name)
            form = _form(field)
            about = _cell(str(field.description)) + (f" *{_cell(form)}*" if form else "")
            lines.append(f"| `{name.upper()}` | {f'`{default}`' if default else 'unset'} | {about} |")
    return "\n".join(lines) + "\n"


def messages_page() -> str:
    """The messages as a Markdown page: each topic's fields, key and headers."""
    topics = Topics()
    schemas = json_schemas()
    lines = [
        "# Messages",
        "",
        "Made from `streams/core/messages.py` by `make generate`; do not edit.",
        "",
        "Messages are JSON in UTF-8. Times are RFC 3339 in UTC, such as `2026-01-31T09:30:00.125000Z`. Each",
        "message is the one before it plus what its step learned. A reader ignores fields that it does not",
        "know: within a major schema version fields are only ever added. Schemas for programs are in",
        "[contract/](../contract/), topics with their keys, order and promises in",
        "[contract/asyncapi.json](../contract/asyncapi.json). Names below are with the default",
        "`TOPIC_PREFIX`.",
    ]
    for message_type, schema in schemas.items():
        addresses = [
            f"`{channel.topic(topics)}`"
            for channel in CHANNELS
            if channel.message is not None and channel.message.message_type == message_type
        ]
        lines += ["", f"## `{message_type}`", "", f"{schema['description']}", ""]
        lines += [f"Topics: {', '.join(addresses)}. Schema version {schema['x-schema-version']}.", ""]
        lines += ["| Field | Type | Meaning |", "|---|---|---|"]
        lines += _field_lines(schema)
        for part, nested in schema.get("$defs", {}).items():
            lines += ["", f"`{part}`: {nested['description']}", "", "| Field | Type |", "|---|---|"]
            lines += [f"| `{name}` | {_json_type(field)} |" for name, field in nested["properties"].items()]
        lines += ["", "Headers:", "", "| Header | Meaning |", "|---|---|"]
        lines += _header_lines(headers_schema(message_type))
    lines += ["", "## `dead-letter`", ""]
    lines += [
        f"Topic: `{topics.dead_letter}`. The value is the received bytes, unchanged; everything else is",
        "in the headers.",
        "",
        "| Header | Meaning |",
        "|---|---|",
        *_header_lines(headers_schema("dead-letter")),
    ]
    return "\n".join(lines) + "\n"


def metrics_page() -> str:
    """The metrics as a Markdown page."""
    lines = [
        "# Metrics",
        "",
        "Made from `streams/observability/metrics.py` by `make generate`; do not edit.",
        "",
        "Each role serves these at `/metrics` of its health port (`HEALTH_PORT`), in Prometheus' format,",
        "beside the usual `process_*` and `python_*`. Names keep to Prometheus' conventions: seconds,",
        "`_total` for counters. Each process tells of its own share: sum `labelstream_lag_messages` over the",
        "processes of a role, and take the greatest of `labelstream_lag_seconds`.",
    ]
    for title, wanted in (
        ("Every role", lambda roles: roles[0] == "every role"),
        ("Several roles", lambda roles: len(roles) > 1),
        ("`poller`", lambda roles: roles == ("poller",)),
        ("`agents`", lambda roles: roles == ("agents",)),
        ("`sink`", lambda roles: roles == ("sink",)),
        ("`api`", lambda roles: roles == ("api",)),
        ("`trainer`", lambda roles: roles == ("trainer",)),
        ("`all`", lambda roles: roles == ("all",)),
    ):
        lines += ["", f"## {title}", "", "| Metric | Kind | Labels | Meaning |", "|---|---|---|---|"]
        lines += [_metric_line(one) for one in METRICS if wanted(one.roles)]
    return "\n".join(lines) + "\n"


def _metric_line(metric: Declared) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    roles = f" *{', '.join(metric.roles)}*" if len(metric.roles) > 1 else ""
    bounds = f" Bounds: {', '.join(f'{bound:g}' for bound in metric.bounds)}." if metric.bounds else ""
    return f"| `{metric.name}` | {metric.kind} | {labels} | {_cell(metric.help)}{bounds}{roles} |"


def _field_lines(schema: dict[str, Any]) -> Iterator[str]:
    for name, field in schema["properties"].items():
        yield f"| `{name}` | {_json_type(field)} | {_cell(field.get('description', ''))} |"


def _header_lines(schema: dict[str, Any]) -> Iterator[str]:
    for name, field in schema["properties"].items():
        optional = "" if name in schema["required"] else " Not always there."
        yield f"| `{name}` | {_cell(field['description'])}{optional} |"


def _json_type(field: dict[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(_json_type(choice) for choice in field["anyOf"])
    if "$ref" in field:
        return f"`{field['$ref'].rsplit('/', 1)[-1]}`"
    kind = str(field["type"])
    if kind == "array":
        return f"list of {_json_type(field['items'])}"
    if field.get("format") == "date-time":
        return "time"
    if "minimum" in field and "maximum" in field:
        return f"{kind} {field['minimum']:g} to {field['maximum']:g}"
    return kind


def _form(field: FieldInfo) -> str:
    """The allowed values, if the description alone does not say."""
    annotation = field.annotation
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        annotation = next(kind for kind in typing.get_args(annotation) if kind is not type(None))
    if typing.get_origin(annotation) is Literal:
        return " | ".join(str(choice) for choice in typing.get_args(annotation))
    if annotation is SecretStr:
        return "secret"
    if annotation is bool:
        return "true | false"
    if annotation is Path:
        return "path"
    if annotation in (int, float):
        least = _limit(field, "ge")
        most = _limit(field, "le")
        kind = "whole number" if annotation is int else "number"
        if least is not None and most is not None:
            return f"{kind}, {least} to {most}"
        return f"{kind}, {least} or more" if least is not None else kind
    return ""


def _limit(field: FieldInfo, name: str) -> str | None:
    found = [getattr(entry, name) for entry in field.metadata if getattr(entry, name, None) is not None]
    return f"{found[0]:g}" if found and found[0] < 1e6 else str(found[0]) if found else None


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
