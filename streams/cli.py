"""The command line. Commands say what is wrong in one line with the setting's name, not in a traceback."""

from __future__ import annotations

import asyncio
import sys
from enum import StrEnum
from typing import Annotated, Any

import typer

from streams.cli_letters import letters_app
from streams.cli_local import describe_app, local_app
from streams.cli_parts import (
    SETTLE_SECONDS,
    Json,
    console,
    print_json,
    read_settings,
    until_signal,
    write_line,
)
from streams.cli_replay import backfill, replay_app
from streams.cli_versions import versions_app
from streams.errors import ConfigurationError, LabelstreamError
from streams.logs import configure_logs
from streams.watchdog import EXIT_CODE, StalledError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Labels ClickHouse rows as they arrive: Kafka in between, LLMs inside your network.",
)
app.add_typer(local_app, name="local")
app.add_typer(describe_app, name="describe")
app.add_typer(letters_app, name="dead-letters")
app.add_typer(replay_app, name="replay")
app.add_typer(versions_app, name="versions")
app.command()(backfill)

_CHILDREN_SECONDS = 15.0
_STACK_SECONDS = 45.0


class Role(StrEnum):
    """What `run` can run."""

    POLLER = "poller"
    AGENTS = "agents"
    SINK = "sink"
    API = "api"
    FETCHER = "fetcher"
    ALL = "all"


@app.command()
def run(role: Role) -> None:
    """Run one role, or all of them under supervision, until SIGTERM or Ctrl-C."""
    from streams import roles

    settings = read_settings()
    configure_logs(settings.log_level, settings.log_format, role.value)
    work = {
        Role.POLLER: roles.run_poller,
        Role.AGENTS: roles.run_agents,
        Role.SINK: roles.run_sink,
        Role.API: roles.run_api,
        Role.FETCHER: roles.run_fetcher,
        Role.ALL: roles.run_all,
    }
    until_signal(work[role](settings), _CHILDREN_SECONDS if role is Role.ALL else SETTLE_SECONDS)


@app.command()
def init(as_json: Json = False) -> None:
    """Create the topics and the result tables that are missing."""
    from streams import roles
    from streams.local import with_local_stack

    made = asyncio.run(roles.initialise(with_local_stack(read_settings())))
    if as_json:
        print_json(made)
        return
    console.print(f"topics made: {', '.join(made['topics']) or 'none, all are there'}")
    console.print(f"result tables are in database {made['database']}")


@app.command()
def check(as_json: Json = False) -> None:
    """Try every connection, column, model, topic and right, and say what to do about each failure."""
    from streams import checks
    from streams.local import with_local_stack

    findings = asyncio.run(checks.check_all(with_local_stack(read_settings())))
    failed = [finding for finding in findings if not finding.ok]
    if as_json:
        print_json({"ok": not failed, "findings": [finding.as_dict() for finding in findings]})
    else:
        for finding in findings:
            typer.echo(finding.line())
    if failed:
        raise typer.Exit(1)


@app.command()
def tap(
    topic: Annotated[str, typer.Argument(help="A topic's full name, such as esk.labeled.")],
    count: Annotated[int, typer.Option(help="Stop after so many messages; 0 for never.")] = 0,
    beginning: Annotated[bool, typer.Option(help="From the first message instead of the next.")] = False,
) -> None:
    """Print messages as they come, one JSON object a line."""
    from connectors.kafka.tap import tap as follow
    from streams.local import with_local_stack

    settings = with_local_stack(read_settings())
    until_signal(follow(settings, topic, count=count, beginning=beginning, write=write_line))


@app.command()
def demo(
    rows: Annotated[
        int | None,
        typer.Option(
            min=0, help="Stop when so many rows are stored; 0: at Ctrl-C. [0, outside a terminal 1000]"
        ),
    ] = None,
    as_json: Json = False,
    rate: Annotated[
        float | None,
        typer.Option(min=0.1, help="New rows a second, on average. [25, with --rows as fast as it goes]"),
    ] = None,
) -> None:
    """The whole pipeline on this machine: rows land in ClickHouse and come out labelled."""
    from streams import demo as show

    settings = read_settings()
    configure_logs("warning", settings.log_format)
    wanted = rows if rows is not None else 0 if sys.stderr.isatty() and not as_json else 1000
    figures: dict[str, Any] = {}

    async def play() -> None:
        figures.update(await show.play(settings, rows=wanted, rate=rate, quiet=as_json))

    until_signal(play(), _STACK_SECONDS)
    if as_json:
        print_json(figures)
    if wanted and figures.get("stored") != figures.get("rows"):
        raise typer.Exit(1)


@app.command()
def status(as_json: Json = False) -> None:
    """Lag of each topic, members of each group, and the health of the roles on this machine."""
    from streams.local import with_local_stack
    from streams.status import status as look

    found = asyncio.run(look(with_local_stack(read_settings())))
    if as_json:
        print_json(found)
        return
    for name, topic in found["topics"].items():
        lags = ", ".join(f"{group} {lag}" for group, lag in topic["lag"].items())
        typer.echo(f"{name:24} {topic['messages']:>10} messages   lag: {lags}")
    for group, members in found["groups"].items():
        typer.echo(f"{group:24} {members:>10} members")
    for job in found["replays"]:
        typer.echo(f"replay {job['id']:17} {job['published']:>10} of {job['expected']} rows, {job['state']}")
    for role in found["roles"]:
        ready = "at work" if role["ready"] == "ok" else f"waits for {role['ready']}"
        typer.echo(f"{role['role']:24} pid {role.get('pid', '-')}  {role['health']}, {ready}")


def main() -> None:
    """Entry point: our errors in one line each, exit code 1; anything else is a bug and shows itself."""
    try:
        app()
    except StalledError as error:
        console.print(f"labelstream: {error}", style="red", markup=False, highlight=False)
        sys.exit(EXIT_CODE)
    except LabelstreamError as error:
        console.print(f"labelstream: {error}", style="red", markup=False, highlight=False)
        if isinstance(error, ConfigurationError) and error.fix:
            console.print(f"  {error.fix}", markup=False, highlight=False)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
