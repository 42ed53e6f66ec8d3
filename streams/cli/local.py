"""`labelstream local ...` and `labelstream describe ...`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from streams.cli.common import Json, console, examples, print_json, read_settings
from streams.cli.progress import working

local_app = typer.Typer(no_args_is_help=True, help="Kafka, ClickHouse and an LLM stand-in on this machine.")
Port = typer.Option(min=1, max=65535, help="Port on 127.0.0.1; a free one if not given.")


@local_app.command(
    "up",
    epilog=examples("labelstream local up", "labelstream local up --kafka-port 9192"),
)
def local_up(
    kafka_port: Annotated[int | None, Port] = None,
    clickhouse_port: Annotated[int | None, Port] = None,
    llm_port: Annotated[int | None, Port] = None,
    as_json: Json = False,
) -> None:
    """Start the parts that no setting points elsewhere; running ones are kept."""
    from streams.runtime.local_stack import start_local_stack

    ports = {"kafka_port": kafka_port, "clickhouse_port": clickhouse_port, "llm_port": llm_port}
    settings = read_settings()
    with working("starting the local stack"):
        status = start_local_stack(settings, on_progress=console.print, **ports)
    print_json(status) if as_json else _show_stack(status)


@local_app.command("down", epilog=examples("labelstream local down"))
def local_down(as_json: Json = False) -> None:
    """Stop the local stack. Its data stays."""
    from streams.runtime.local_stack import stop_local_stack

    settings = read_settings()
    with working("stopping the local stack"):
        status = stop_local_stack(settings)
    print_json(status) if as_json else _show_stack(status)


@local_app.command("status", epilog=examples("labelstream local status --json"))
def local_status(as_json: Json = False) -> None:
    """Show addresses and processes."""
    from streams.runtime.local_stack import local_stack_status

    status = local_stack_status(read_settings())
    print_json(status) if as_json else _show_stack(status)


def _show_stack(status: dict[str, Any]) -> None:
    for name, part in status.items():
        if isinstance(part, dict):
            address, pid = part.get("address") or "-", part.get("pid") or "-"
            typer.echo(f"{name:12} {part.get('state'):9} {address:40} pid {pid}")
