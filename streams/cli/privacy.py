"""`labelstream privacy try` and `scan`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from streams.cli.common import Json, examples, print_json, read_settings
from streams.cli.progress import working

privacy_app = typer.Typer(
    no_args_is_help=True, help="Personal data: what masking changes, and what is stored unmasked."
)


@privacy_app.command(
    "try", epilog=examples("labelstream privacy try texts.txt", "labelstream privacy try logs.csv --json")
)
def try_(
    file: Annotated[Path, typer.Argument(help="Texts: lines of a .txt, or a file as for an upload.")],
    limit: Annotated[int, typer.Option(min=0, help="Show so many changed texts.")] = 20,
    as_json: Json = False,
) -> None:
    """Show how masking changes a file's texts, before and after, whatever PRIVACY is. Nothing is sent."""
    from streams.operations.privacy import try_file

    settings = read_settings()
    with working("masking"):
        found = asyncio.run(try_file(settings, file, limit))
    if as_json:
        print_json(found)
        return
    for one in found["changes"]:
        typer.echo(f"{one['row']}\n  - {one['before']}\n  + {one['after']}")
    typer.echo(f"{found['changed']} of {found['texts']} texts change, {found['failed']} cannot be masked")
    for entity, count in sorted(found["counts"].items()):
        typer.echo(f"{count:8}  {entity}")


@privacy_app.command(epilog=examples("labelstream privacy scan", "labelstream privacy scan --json"))
def scan(as_json: Json = False) -> None:
    """Look through the result tables and the topics for personal data: counts and places, never values."""
    from streams.operations.privacy import scan as look
    from streams.runtime.local_stack import with_local_stack

    settings = with_local_stack(read_settings())
    with working("looking through tables and topics") as say:
        found = asyncio.run(look(settings, lambda done: say(f"{done} rows and messages looked at")))
    if as_json:
        print_json(found)
        return
    for one in found["found"]:
        counts = ", ".join(f"{entity} {count}" for entity, count in sorted(one["counts"].items()))
        typer.echo(f"{one['where']}: {one['rows']} rows; {counts}; such as {', '.join(one['examples'])}")
    typer.echo(f"{sum(found['scanned'].values())} rows and messages looked at")
