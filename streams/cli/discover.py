"""`labelstream discover`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from streams.cli.common import Json, examples, print_json, read_settings
from streams.cli.progress import working

EXAMPLES = examples(
    "labelstream discover",
    "labelstream discover --days 7 --json",
    "labelstream discover --make 3fa0c2d1 --name sim_replacement --out new.yaml",
)
_SHOWN, _EXAMPLES, _WIDTH = 10, 3, 100


def discover(
    days: Annotated[
        float,
        typer.Option(
            min=0.01, max=366, help="The rows of so many days up to the newest one, beside as many before."
        ),
    ] = 3.0,
    make: Annotated[
        str | None, typer.Option(metavar="ID", help="Make this group a label: print the taxonomy's entry.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="With --make: the label's name.")] = None,
    title: Annotated[str | None, typer.Option(help="With --make: its title.")] = None,
    description: Annotated[
        str | None, typer.Option(help="With --make: what it means, for the model.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="With --make: write the whole taxonomy (TAXONOMY_PATH) with the entry to this new file."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Find what is new: rows that are unsure, labelled as "other", or unlike all before, in groups of alike
    texts, the likeliest new first. A group can be made a label."""
    if (make is None) != (name is None):
        raise typer.BadParameter("--make and --name go together", param_hint="--make")
    if make is None and (out or title or description):
        raise typer.BadParameter("only with --make", param_hint="--out" if out else "--title")
    from connectors.clickhouse.client.client import ClickHouseClient
    from streams.quality.discovery.discover import discover as look
    from streams.quality.discovery.entry import made_label
    from streams.runtime.local_stack import with_local_stack

    settings = with_local_stack(read_settings())

    async def looked() -> dict[str, Any]:
        async with ClickHouseClient.from_settings(settings) as client:
            return await look(client, settings, days=days)

    with working("looking for what is new"):
        found = asyncio.run(looked())
    if make is None or name is None:
        if as_json:
            print_json(found)
            return
        for line in _lines(found):
            typer.echo(line)
        return
    made = made_label(found, make, name, title, description, taxonomy=settings.taxonomy_path, out=out)
    if as_json:
        print_json(made)
        return
    typer.echo(made["yaml"] if out is None else f"{out} is {settings.taxonomy_path} with the label {name}")
    typer.echo(f"then: {made['replay']}", err=True)


def _lines(found: dict[str, Any]) -> list[str]:
    if found["since"] is None:
        return ["there are no rows yet"]
    lines = [
        f'since {found["since"]}: {found["rows"]} rows, {found["doubtful"]} of them unsure or "other"'
        + (f"; a sample of {found['share']:.0%} of these" if found["share"] < 1 else "")
    ]
    if not found["groups"]:
        return [*lines, "no group of alike texts among them"]
    for one in found["groups"][:_SHOWN]:
        growth = "new" if one["growth"] is None else f"{one['growth']:.1f} times as many as before"
        labels = ", ".join(f"{label} {count}" for label, count in one["labels"].items())
        lines.append(f"{one['id']}  {one['size']:>7} rows, {growth}; now labelled {labels}")
        lines += [f"              {example['text'][:_WIDTH]}" for example in one["examples"][:_EXAMPLES]]
    return lines
