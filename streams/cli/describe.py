"""`labelstream describe ...`: prints the declarations."""

from __future__ import annotations

import typer

from streams.cli.common import examples, print_json, read_settings

describe_app = typer.Typer(
    no_args_is_help=True, help="What labelstream declares: settings, tables, messages."
)


@describe_app.command("env", epilog=examples("labelstream describe env"))
def describe_env() -> None:
    """Every setting with its description, in the form of a .env file."""
    from streams.reference.pages import describe_env as text

    typer.echo(text(), nl=False)


@describe_app.command("ddl", epilog=examples("labelstream describe ddl"))
def describe_ddl() -> None:
    """The result tables."""
    from connectors.clickhouse.schema.database import describe_ddl as text

    typer.echo(text(read_settings()))


@describe_app.command("schema", epilog=examples("labelstream describe schema"))
def describe_schema() -> None:
    """JSON Schema of each message."""
    from streams.reference.json_schema import json_schemas

    print_json(json_schemas())


@describe_app.command("asyncapi", epilog=examples("labelstream describe asyncapi"))
def describe_asyncapi() -> None:
    """AsyncAPI document of the topics: keys, headers, partitions, order, retention, delivery."""
    from streams.core.topics import Topics
    from streams.reference.asyncapi import asyncapi

    settings = read_settings()
    print_json(asyncapi(Topics(settings.topic_prefix), settings))
