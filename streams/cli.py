"""The command line. Commands say what is wrong in one line with the setting's name, not in a traceback."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console

from streams.errors import ConfigurationError, LabelstreamError
from streams.logs import configure_logs
from streams.settings import Settings, load
from streams.watchdog import EXIT_CODE, StalledError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Labels ClickHouse rows as they arrive: Kafka in between, LLMs inside your network.",
)
local_app = typer.Typer(no_args_is_help=True, help="Kafka, ClickHouse and an LLM stand-in on this machine.")
describe_app = typer.Typer(
    no_args_is_help=True, help="What labelstream declares: settings, tables, messages."
)
app.add_typer(local_app, name="local")
app.add_typer(describe_app, name="describe")
letters_app = typer.Typer(no_args_is_help=True, help="What was given up, and another try for it.")
app.add_typer(letters_app, name="dead-letters")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, last on stdout.")]
Port = typer.Option(min=1, max=65535, help="Port on 127.0.0.1; a free one if not given.")
console = Console(stderr=True)

_SETTLE_SECONDS = 9.0
_CHILDREN_SECONDS = 15.0
_STACK_SECONDS = 45.0


class Role(StrEnum):
    """What `run` can run."""

    POLLER = "poller"
    AGENTS = "agents"
    SINK = "sink"
    ALL = "all"


@app.command()
def run(role: Role) -> None:
    """Run one role, or all of them under supervision, until SIGTERM or Ctrl-C."""
    from streams import roles

    settings = _settings()
    configure_logs(settings.log_level, settings.log_format)
    work = {
        Role.POLLER: roles.run_poller,
        Role.AGENTS: roles.run_agents,
        Role.SINK: roles.run_sink,
        Role.ALL: roles.run_all,
    }
    _until_signal(work[role](settings), _CHILDREN_SECONDS if role is Role.ALL else _SETTLE_SECONDS)


@app.command()
def init(as_json: Json = False) -> None:
    """Create the topics and the result tables that are missing."""
    from streams import roles
    from streams.local import with_local_stack

    made = asyncio.run(roles.initialise(with_local_stack(_settings())))
    if as_json:
        _print_json(made)
        return
    console.print(f"topics made: {', '.join(made['topics']) or 'none, all are there'}")
    console.print(f"result tables are in database {made['database']}")


@app.command()
def check(as_json: Json = False) -> None:
    """Try every connection, column, model, topic and right, and say what to do about each failure."""
    from streams import checks
    from streams.local import with_local_stack

    findings = asyncio.run(checks.check_all(with_local_stack(_settings())))
    failed = [finding for finding in findings if not finding.ok]
    if as_json:
        _print_json({"ok": not failed, "findings": [finding.as_dict() for finding in findings]})
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

    settings = with_local_stack(_settings())
    _until_signal(follow(settings, topic, count=count, beginning=beginning, write=_write_line))


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

    settings = _settings()
    configure_logs("warning", settings.log_format)
    wanted = rows if rows is not None else 0 if sys.stderr.isatty() and not as_json else 1000
    figures: dict[str, Any] = {}

    async def play() -> None:
        figures.update(await show.play(settings, rows=wanted, rate=rate, quiet=as_json))

    _until_signal(play(), _STACK_SECONDS)
    if as_json:
        _print_json(figures)
    if wanted and figures.get("stored") != figures.get("rows"):
        raise typer.Exit(1)


Reason = Annotated[str | None, typer.Option(help="Only this reason, such as invalid-answer.")]
StepName = Annotated[str | None, typer.Option(help="Only this step: poll, label, augment or store.")]
Since = Annotated[str | None, typer.Option(help="Only from this time on, such as 2026-01-31T00:00:00Z.")]


@letters_app.command("list")
def letters_list(
    reason: Reason = None,
    step: StepName = None,
    since: Since = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 20,
    as_json: Json = False,
) -> None:
    """Show dead letters, newest first: what, where from, why, and whether the row came through since."""
    from streams.local import with_local_stack
    from streams.retry import list_dead_letters

    settings = with_local_stack(_settings())
    found = asyncio.run(
        list_dead_letters(settings, reason=reason, step=step, since=moment_in(since), limit=limit)
    )
    if as_json:
        _print_json(found)
        return
    for one in found["dead_letters"]:
        state = "resolved" if one["resolved"] else "open"
        origin = f"{one['topic']}/{one['partition']}/{one['offset']}"
        typer.echo(
            f"{one['failed_at']}  {state:8}  {one['step']:7}  {one['reason']:16}  "
            f"row {one['row_id'] or '-'}  from {origin}\n    {one['error'][:200]}"
        )
        typer.echo(f"    {str(one.get('payload') or one.get('payload_base64') or '')[:200]!r}")
    typer.echo(f"{found['total']} in all")
    for count in found["counts"]:
        typer.echo(f"{count['count']:8}  {count['step']:7}  {count['reason']}")


@letters_app.command("retry")
def letters_retry(
    reason: Reason = None,
    step: StepName = None,
    since: Since = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 1_000_000,
    as_json: Json = False,
) -> None:
    """Try the open ones again: through the replay topic, or into the table that refused them."""
    from streams.local import with_local_stack
    from streams.retry import retry_dead_letters

    settings = with_local_stack(_settings())
    done = asyncio.run(
        retry_dead_letters(settings, reason=reason, step=step, since=moment_in(since), limit=limit)
    )
    if as_json:
        _print_json(done)
        return
    typer.echo(f"{done['retried']} sent to be worked on again, {done['stored']} stored")
    for why, count in done["left"].items():
        typer.echo(f"{count} left: {why}")


@app.command()
def status(as_json: Json = False) -> None:
    """Lag of each topic, members of each group, and the health of the roles on this machine."""
    from streams.local import with_local_stack
    from streams.status import status as look

    found = asyncio.run(look(with_local_stack(_settings())))
    if as_json:
        _print_json(found)
        return
    for name, topic in found["topics"].items():
        lags = ", ".join(f"{group} {lag}" for group, lag in topic["lag"].items())
        typer.echo(f"{name:24} {topic['messages']:>10} messages   lag: {lags}")
    for group, members in found["groups"].items():
        typer.echo(f"{group:24} {members:>10} members")
    for role in found["roles"]:
        ready = "at work" if role["ready"] == "ok" else f"waits for {role['ready']}"
        typer.echo(f"{role['role']:24} pid {role.get('pid', '-')}  {role['health']}, {ready}")


@local_app.command("up")
def local_up(
    kafka_port: Annotated[int | None, Port] = None,
    clickhouse_port: Annotated[int | None, Port] = None,
    llm_port: Annotated[int | None, Port] = None,
    as_json: Json = False,
) -> None:
    """Start what is not set to run elsewhere; what runs already is kept."""
    from streams.local import start_local_stack

    ports = {"kafka_port": kafka_port, "clickhouse_port": clickhouse_port, "llm_port": llm_port}
    status = start_local_stack(_settings(), on_progress=console.print, **ports)
    _print_json(status) if as_json else _show_stack(status)


@local_app.command("down")
def local_down(as_json: Json = False) -> None:
    """Stop it. Its data stays."""
    from streams.local import stop_local_stack

    status = stop_local_stack(_settings())
    _print_json(status) if as_json else _show_stack(status)


@local_app.command("status")
def local_status(as_json: Json = False) -> None:
    """Addresses and processes."""
    from streams.local import local_stack_status

    status = local_stack_status(_settings())
    _print_json(status) if as_json else _show_stack(status)


@describe_app.command("env")
def describe_env() -> None:
    """Every setting with its description, in the form of a .env file."""
    from streams.describe import describe_env as text

    typer.echo(text(), nl=False)


@describe_app.command("ddl")
def describe_ddl() -> None:
    """The result tables."""
    from connectors.clickhouse.ddl import describe_ddl as text

    typer.echo(text(_settings()))


@describe_app.command("schema")
def describe_schema() -> None:
    """JSON Schema of each message."""
    from streams.schemas import json_schemas

    _print_json(json_schemas())


@describe_app.command("asyncapi")
def describe_asyncapi() -> None:
    """AsyncAPI document of the topics: keys, headers, partitions, order, retention, delivery."""
    from streams.asyncapi import asyncapi
    from streams.topics import Topics

    settings = _settings()
    _print_json(asyncapi(Topics(settings.topic_prefix), settings))


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


def moment_in(text: str | None) -> datetime | None:
    """A time given on the command line.

    Raises:
        ConfigurationError: it is none, or has no zone.
    """
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"{text} is no time", fix="write it as 2026-01-31T00:00:00Z") from None
    if found.tzinfo is None:
        raise ConfigurationError(f"{text} has no zone", fix="add Z for UTC, or +03:00")
    return found


def _settings() -> Settings:
    return load(env_file=Path(".env"))


def _until_signal(work: Awaitable[Any], settle: float = _SETTLE_SECONDS) -> None:
    """Run ``work``; SIGTERM and SIGINT cancel it, and it settles before the process ends.

    Once: a second signal does not disturb the settling. What has not settled after ``settle`` seconds
    never will, and ends without it, which loses nothing that a crash would not.
    """
    last = threading.Timer(settle, os._exit, (1,))
    last.daemon = True

    async def main_task() -> None:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()

        def end() -> None:
            if not last.is_alive():
                last.start()
                task.cancel()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, end)
        try:
            await task
        except asyncio.CancelledError:
            return

    _runner()(main_task())


def _runner() -> Callable[[Coroutine[Any, Any, None]], None]:
    if sys.platform == "win32":
        return asyncio.run
    import uvloop

    run: Callable[[Coroutine[Any, Any, None]], None] = uvloop.run
    return run


def _print_json(value: object) -> None:
    typer.echo(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode())


def _write_line(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.flush()


def _show_stack(status: dict[str, Any]) -> None:
    for name, part in status.items():
        if isinstance(part, dict):
            address, pid = part.get("address") or "-", part.get("pid") or "-"
            typer.echo(f"{name:12} {part.get('state'):9} {address:40} pid {pid}")


if __name__ == "__main__":
    main()
