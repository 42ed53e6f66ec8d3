"""`labelstream erase`."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from streams.cli.common import Json, account, examples, print_json, read_settings
from streams.cli.progress import working

EXAMPLES = examples(
    "labelstream erase --user 4711 --dry-run",
    "labelstream erase --user 4711",
    "labelstream erase --row 42 --json",
)


def erase(
    user: Annotated[str | None, typer.Option(help="The user's id, as the source table has it.")] = None,
    row: Annotated[str | None, typer.Option(help="The id of a row, instead of a user.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be erased; change nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Take a user's rows out of tables, files and compacted topics, and keep them from coming back.

    Counts by label and day stay as they are. Rows that come later are new data. The source table is not
    changed: delete them there first. Exit code 1: something is left, the report says what.
    """
    if (user is None) == (row is None):
        raise typer.BadParameter("give --user or --row, and not both")
    from streams.operations.erase import erase as work
    from streams.runtime.local_stack import with_local_stack

    settings = with_local_stack(read_settings())
    with working("erasing") as say:
        found = asyncio.run(
            work(
                settings,
                "user" if user is not None else "row",
                user if user is not None else row or "",
                dry_run=dry_run,
                audited_as=account(),
                say=say,
            )
        )
    told = found.as_dict()
    if as_json:
        print_json(told)
    else:
        _show(told)
    if not found.complete:
        raise typer.Exit(1)


def _show(told: dict[str, Any]) -> None:
    typer.echo(f"{'where':16}  {'found':>8}" + ("" if told["dry_run"] else f"  {'gone':>8}"))
    for where, count in told["found"].items():
        gone = "" if told["dry_run"] else f"  {told['gone'].get(where, 0):8}"
        typer.echo(f"{where:16}  {count:8}{gone}")
    for name in told["files"]:
        typer.echo(f"file: {name}")
    for one in told["left"]:
        typer.echo(f"left: {one}")
    for one in told["kept"]:
        typer.echo(f"{one['where']}: {one['why']}" + (f", until {one['until']}" if one["until"] else ""))
