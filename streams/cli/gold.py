"""`labelstream gold export` and `suspects`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from streams.cli.common import Json, examples, print_json, read_settings, write_line
from streams.cli.progress import working
from streams.core.errors import ConfigurationError

gold_app = typer.Typer(
    no_args_is_help=True,
    help="The labels that people gave: as a file, and those that are likeliest wrong.",
)


@gold_app.command(epilog=examples("labelstream gold export", "labelstream gold export gold.csv"))
def export(
    file: Annotated[
        Path | None,
        typer.Argument(help="The file to write, which must not exist.", show_default="standard output"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write every row that people labelled, as CSV, with the label that counts and how the row was drawn."""
    from streams.quality.gold import gold_lines
    from streams.runtime.local_stack import with_local_stack

    if file is None and as_json:
        raise typer.BadParameter("name a file: standard output cannot have both", param_hint="--json")
    settings = with_local_stack(read_settings())

    async def write(line: Callable[[bytes], object]) -> int:
        rows = -1  # the header is none
        async for text in gold_lines(settings):
            line(text.encode("utf-8", "replace"))
            rows += 1
        return rows

    if file is None:
        asyncio.run(write(lambda text: write_line(text.removesuffix(b"\n"))))
        return
    with working("writing"), _created(file) as out:
        rows = asyncio.run(write(out.write))
    if as_json:
        print_json({"rows": rows, "file": str(file)})
    else:
        typer.echo(f"{rows} rows are in {file}")


@gold_app.command(epilog=examples("labelstream gold suspects", "labelstream gold suspects --most 10 --json"))
def suspects(
    most: Annotated[int, typer.Option(min=1, help="Show at most so many.")] = 50,
    as_json: Json = False,
) -> None:
    """The labels of people that are likeliest wrong, the likeliest first: another look at them is worth most.
    They are judged by a model that is taught on the other texts, on this machine."""
    from streams.quality.gold import gold_suspects
    from streams.runtime.local_stack import with_local_stack

    settings = with_local_stack(read_settings())
    with working("judging"):
        found = asyncio.run(gold_suspects(settings, most))
    if as_json:
        print_json(found)
        return
    typer.echo(f"{found['suspects']} of {found['gold']} gold rows are doubtful")
    for one in found["rows"]:
        typer.echo(f"{one['row_id']}  {one['label']}, rather {one['likelier']}: {one['text']}")


def _created(file: Path) -> BinaryIO:
    try:
        return file.open("xb")
    except OSError as error:
        raise ConfigurationError(
            f"{file} cannot be written: {error.strerror}", fix="name a file that does not exist yet"
        ) from error
