"""`labelstream evaluate`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from streams.cli.common import Json, examples, print_json, read_settings
from streams.cli.progress import working

_SHOWN = 20

EXAMPLES = examples(
    "labelstream evaluate gold.csv",
    "labelstream evaluate gold.csv --version mistral.1f0c2a9b --json",
)


def evaluate(
    gold: Annotated[
        Path,
        typer.Argument(help="A file with row_id (or text) and label, as the page or a spreadsheet saves it."),
    ],
    version: Annotated[
        str | None, typer.Option(help="The label version to be judged.", show_default="the current one")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare a label version with the labels that people gave: accuracy, precision, recall, confusion."""
    from streams.runtime.local_stack import with_local_stack
    from streams.versions.evaluate import evaluate as judge

    settings = with_local_stack(read_settings())
    with working("comparing"):
        found = asyncio.run(judge(settings, gold, version))
    if as_json:
        print_json(found)
        return
    typer.echo(
        f"{found['version']}: {found['right']} of {found['labeled']} right, accuracy "
        f"{_share(found['accuracy'])}, macro F1 {_share(found['macro_f1'])}; "
        f"{found['gold'] - found['labeled']} of {found['gold']} gold rows have no label of it"
    )
    if found["unlabeled"]:
        typer.echo(f"{found['unlabeled']} rows of {gold} have no right label yet: they are not judged")
    for warning in found["warnings"]:
        typer.echo(warning, err=True)
    typer.echo(f"{'label':32}  {'rows':>7}  precision  recall     F1")
    for one in found["labels"]:
        typer.echo(
            f"{one['label']:32}  {one['support']:>7}  {_share(one['precision']):>9}  "
            f"{_share(one['recall']):>6}  {_share(one['f1']):>5}"
        )
    taken = [
        (count, right, given)
        for right, row in found["confusion"].items()
        for given, count in row.items()
        if right != given
    ]
    for count, right, given in sorted(taken, reverse=True)[:_SHOWN]:
        typer.echo(f"{count:>7}  {right} was taken for {given}")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
