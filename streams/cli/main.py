"""The command line. Errors are one line with the setting's name, not a traceback."""

from __future__ import annotations

import asyncio
import sys
from enum import StrEnum
from typing import Annotated, Any

import typer

from streams.cli.common import (
    SETTLE_SECONDS,
    Json,
    console,
    examples,
    print_json,
    read_settings,
    until_signal,
    write_line,
)
from streams.cli.dead_letters import letters_app
from streams.cli.describe import describe_app
from streams.cli.discover import EXAMPLES as DISCOVER_EXAMPLES
from streams.cli.discover import discover
from streams.cli.erase import EXAMPLES as ERASE_EXAMPLES
from streams.cli.erase import erase
from streams.cli.errors import DEBUG, debugging, guarded, hoisted, logged
from streams.cli.evaluate import EXAMPLES as EVALUATE_EXAMPLES
from streams.cli.evaluate import evaluate
from streams.cli.gold import gold_app
from streams.cli.local import local_app
from streams.cli.privacy import privacy_app
from streams.cli.progress import working
from streams.cli.replay import BACKFILL_EXAMPLES, backfill, replay_app
from streams.cli.status import EXAMPLES as STATUS_EXAMPLES
from streams.cli.status import status
from streams.cli.versions.commands import cascade_app, versions_app
from streams.core.errors import optional_packages
from streams.observability.collectors import release
from streams.observability.logs import configure_logs
from streams.roles.registry import Role, run_role

NAME = "labelstream"
COMPLETE = "_LABELSTREAM_COMPLETE"

app = typer.Typer(
    name=NAME,
    no_args_is_help=True,
    epilog=examples(
        "labelstream demo", "labelstream check", "labelstream run all", "labelstream status --watch"
    ),
    pretty_exceptions_enable=False,
    help="Labels ClickHouse rows as they arrive: Kafka in between, LLMs inside your network.",
)
app.add_typer(local_app, name="local")
app.add_typer(describe_app, name="describe")
app.add_typer(letters_app, name="dead-letters")
app.add_typer(replay_app, name="replay")
app.add_typer(versions_app, name="versions")
app.add_typer(cascade_app, name="cascade")
app.add_typer(gold_app, name="gold")
app.add_typer(privacy_app, name="privacy")
app.command(epilog=BACKFILL_EXAMPLES)(backfill)
app.command(epilog=STATUS_EXAMPLES)(status)
app.command(epilog=EVALUATE_EXAMPLES)(evaluate)
app.command(epilog=ERASE_EXAMPLES)(erase)
app.command(epilog=DISCOVER_EXAMPLES)(discover)

_CHILDREN_SECONDS = 15.0
_STACK_SECONDS = 45.0
_DEMO_RATE, _STAY_SECONDS = 25.0, 60.0


class Shell(StrEnum):
    """Shells with completion."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"
    POWERSHELL = "powershell"


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{NAME} {release()}")
        raise typer.Exit


@app.callback()
def everywhere(
    debug: Annotated[
        bool, typer.Option(DEBUG, help="Show the traceback of an error. It may stand anywhere.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Labels ClickHouse rows as they arrive: Kafka in between, LLMs inside your network."""


@app.command(
    epilog=examples("labelstream run all", "labelstream run agents", "LOG_FORMAT=json labelstream run sink")
)
def run(role: Annotated[Role, typer.Argument(help="`all` runs the others as processes of its own.")]) -> None:
    """Run one role, or all of them under supervision, until SIGTERM or Ctrl-C."""
    settings = read_settings()
    configure_logs(settings.log_level, settings.log_format, role.value)
    settle = _CHILDREN_SECONDS if role is Role.ALL else SETTLE_SECONDS
    if settings.log_format == "json":
        raise typer.Exit(
            logged(lambda: until_signal(run_role(role, settings), settle), role.value, debug=debugging())
        )
    until_signal(run_role(role, settings), settle)


@app.command(epilog=examples("labelstream init --dry-run", "labelstream init", "labelstream init --json"))
def init(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print every statement that would be run, and change nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Create the topics and the result tables that are missing. Tables of an older release are changed, with
    their rows, while the roles go on; settings of topics where no message can be lost by it."""
    from streams.runtime.local_stack import with_local_stack
    from streams.runtime.provisioning import initialise, plan

    settings = with_local_stack(read_settings())
    if dry_run:
        with working("looking at topics and tables"):
            planned = asyncio.run(plan(settings))
        if as_json:
            print_json(planned)
            return
        for line in planned["topics"] or ["# topics: nothing to do"]:
            typer.echo(line)
        typer.echo()
        for statement in planned["tables"] or ["-- result tables: nothing to do"]:
            typer.echo(statement if statement.startswith("--") else f"{statement};\n")
        return
    with working("making topics and tables"):
        made = asyncio.run(initialise(settings))
    if as_json:
        print_json(made)
        return
    console.print(f"topics made: {', '.join(made['topics']) or 'none, all are there'}")
    for one in made["topic_settings"]:
        console.print(f"{one['topic']}: {one['setting']}={one['after']}, before {one['before']}")
    console.print(f"result tables are in database {made['database']}")
    for name in made["migrations"]:
        console.print(f"migrated: {name}")


@app.command(
    epilog=examples(
        "labelstream check", "labelstream check --endpoint", "labelstream check --role sink --json"
    )
)
def check(
    endpoint: Annotated[
        bool,
        typer.Option("--endpoint", help="Try what the models' endpoints take and tell, with some calls."),
    ] = False,
    role: Annotated[
        Role | None,
        typer.Option("--role", help="Only what this role needs, for a user with its rights alone."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Try every connection, column, model, topic and right, and say what to do about each failure."""
    from streams.runtime.local_stack import with_local_stack

    if endpoint:
        from streams.operations.endpoint_check import check_endpoints as check_them
    else:
        from streams.operations.check import check_all as check_them

    settings = with_local_stack(read_settings())
    what = "what the endpoints take and tell" if endpoint else "connections, columns, models and rights"
    with working(f"trying {what}"):
        findings = asyncio.run(check_them(settings, "" if role in (None, Role.ALL) else str(role)))
    failed = [finding for finding in findings if not finding.ok]
    if as_json:
        print_json({"ok": not failed, "findings": [finding.as_dict() for finding in findings]})
    else:
        for finding in findings:
            typer.echo(finding.line())
    if failed:
        raise typer.Exit(1)


@app.command(
    epilog=examples(
        "labelstream tap esk.labeled",
        "labelstream tap esk.labeled --beginning --count 10",
        "labelstream tap esk.dead-letter --beginning",
    )
)
def tap(
    topic: Annotated[str, typer.Argument(help="A topic's full name, such as esk.labeled.")],
    count: Annotated[int, typer.Option(help="Stop after so many messages; 0 for never.")] = 0,
    beginning: Annotated[bool, typer.Option(help="From the first message instead of the next.")] = False,
) -> None:
    """Print messages as they come, one JSON object a line."""
    from connectors.kafka.tap import tap as follow
    from streams.runtime.local_stack import with_local_stack

    settings = with_local_stack(read_settings())
    until_signal(follow(settings, topic, count=count, beginning=beginning, write=write_line), while_read=True)


@app.command(
    epilog=examples("labelstream demo", "labelstream demo --rows 2000 --json", "labelstream demo --rate 5")
)
def demo(
    rows: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Stop when so many rows are stored; 0: at Ctrl-C. "
            "[0; outside a terminal 1000, and then a minute]",
        ),
    ] = None,
    as_json: Json = False,
    rate: Annotated[
        float | None,
        typer.Option(min=0.1, help="New rows a second, on average. [25, with --rows as fast as it goes]"),
    ] = None,
) -> None:
    """The whole pipeline on this machine: rows land in ClickHouse and come out labelled."""
    with optional_packages("the demo"):
        from streams.demo import run as show

    settings = read_settings()
    configure_logs("warning", settings.log_format)
    unattended = rows is None and not (sys.stderr.isatty() and not as_json)
    wanted = 1000 if unattended else rows or 0
    # Nobody can press Ctrl-C there, so it ends by itself, after some time for looking at the results.
    pace, stay = (rate or _DEMO_RATE, _STAY_SECONDS) if unattended and not as_json else (rate, 0.0)
    figures: dict[str, Any] = {}

    async def play() -> None:
        figures.update(await show.play(settings, rows=wanted, rate=pace, quiet=as_json, stay=stay))

    until_signal(play(), _STACK_SECONDS)
    if as_json:
        print_json(figures)
    if wanted and figures.get("stored") != figures.get("rows"):
        raise typer.Exit(1)


@app.command(epilog=examples('eval "$(labelstream completion bash)"', "labelstream completion zsh"))
def completion(
    shell: Annotated[Shell, typer.Argument(help="The shell that is to complete commands and options.")],
) -> None:
    """Print the completion script for a shell; `--install-completion` installs it."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    print(get_completion_script(prog_name=NAME, complete_var=COMPLETE, shell=shell.value))


def main() -> None:
    """Entry point. Exit code 1 for errors, 2 for a wrong command line, 75 for a stalled role."""
    arguments = hoisted(sys.argv[1:])
    # The name that completion scripts use, however the program was started.
    sys.exit(
        guarded(
            lambda: app(args=arguments, prog_name=NAME, complete_var=COMPLETE), debug=DEBUG in arguments[:1]
        )
    )
