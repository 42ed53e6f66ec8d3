"""Write the files that are made from the code; with ``--check``, say which are stale instead.

Made with default settings, whatever the environment says: the files are the same on every machine.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import orjson

from connectors.api.app import openapi_document
from connectors.clickhouse.schema.database import describe_ddl
from streams.cli.reference import cli_page
from streams.core.environment import load
from streams.core.topics import Topics
from streams.reference.asyncapi import asyncapi
from streams.reference.chart_schema import with_settings
from streams.reference.json_schema import headers_schema, json_schemas
from streams.reference.kafka_rights import rights_page
from streams.reference.pages import describe_env, messages_page, metrics_page, settings_page

ROOT = Path(__file__).resolve().parents[1]
CHART = "deploy/helm/labelstream"
# A chart holds only what is in its own folder.
COPIES = {
    f"{CHART}/files/alerts.yml": "deploy/prometheus/alerts.yml",
    f"{CHART}/files/dashboard.json": "deploy/grafana/dashboards/labelstream.json",
}


def generated() -> dict[str, str]:
    """Every generated file's text, by its path in the repository."""
    defaults = load({}, None)
    schemas = {f"docs/contract/{kind}.json": _json(schema) for kind, schema in json_schemas().items()}
    return {
        ".env.example": describe_env(),
        "docs/reference/settings.md": settings_page(),
        "docs/reference/messages.md": messages_page(),
        "docs/reference/metrics.md": metrics_page(),
        "docs/reference/cli.md": cli_page(),
        "docs/reference/kafka-rights.md": rights_page(),
        **schemas,
        "docs/contract/dead-letter.headers.json": _json(headers_schema("dead-letter")),
        "docs/contract/asyncapi.json": _json(asyncapi(Topics(defaults.topic_prefix), defaults)),
        "docs/reference/openapi.json": _json(openapi_document()),
        "docs/contract/ddl.sql": describe_ddl(defaults),
        f"{CHART}/values.schema.json": _json(
            with_settings(orjson.loads((ROOT / CHART / "values.schema.json").read_bytes()))
        ),
        **{copy: (ROOT / original).read_text("utf-8") for copy, original in COPIES.items()},
    }


def stale() -> list[str]:
    """The paths whose text in the repository is not what the code says."""
    return [
        path
        for path, text in generated().items()
        if not (ROOT / path).is_file() or (ROOT / path).read_text("utf-8") != text
    ]


def _json(document: dict[str, Any]) -> str:
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


def main() -> int:
    """Exit code 1 if ``--check`` finds stale files."""
    paths = stale()
    if "--check" in sys.argv[1:]:
        for path in paths:
            print(f"{path} is stale: run `make generate`", file=sys.stderr)
        return 1 if paths else 0
    for path, text in generated().items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text, "utf-8")
    print(f"generate: {', '.join(paths) or 'nothing'} changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
