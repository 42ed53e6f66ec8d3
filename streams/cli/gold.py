"""`labelstream gold import`, `export` and `suspects`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from streams.cli.common import Json, examples, print_json, read_settings, write_line
from streams.cli.progress import working
from streams.core.errors import ConfigurationError

_NAMED = 20

gold_app = typer.Typer(
    no_args_is_help=True,
    help="The labels that people gave: import, export, and those that are likeliest wrong.",
)


@gold_app.command(
    "import",
    epilog=examples("labelstream gold import gold.xlsx", "labelstream gold import gold.csv --by anna"),
)
def import_(
    file: Annotated[
        Path, typer.Argument(help="With row_id (or text) and label, as the page or a spreadsheet saves it.")
    ],
    by: Annotated[str, typer.Option(help="Who gave the labels.")] = "import",
    as_json: Json = False,
) -> None:
    """Publish a file's labels as labels of a person. Rows that other people judged otherwise are refused. A
    file can be taken in again. A text that many rows have is labelled in the first of them."""
    from streams.review.gold_import import import_gold
    from streams.runtime.local_stack import with_local_stack

    settings = with_local_stack(read_settings())
    with working("taking labels in"):
        found = asyncio.run(import_gold(settings, file, by))
    if as_json:
        print_json(found.as_dict())
    else:
        typer.echo(f"{found.imported} labels published, {found.unchanged} were there already")
        if found.unlabeled:
            typer.echo(f"{found.unlabeled} rows have no label yet")
        for what, some in (("refused", found.refused), ("not found", found.absent)):
            for one in some[:_NAMED]:
                typer.echo(f"row {one.row}, {one.name}: {one.why}", err=True)
            if some:
                typer.echo(f"{len(some)} rows were {what}", err=True)
        for warning in found.warnings:
            typer.echo(warning, err=True)
    if found.refused or found.absent:
        raise typer.Exit(1)


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
