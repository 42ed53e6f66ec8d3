"""`labelstream versions canary`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from streams.cli.common import Json, print_json
from streams.core.errors import ConfigurationError

STOP = "stop"


def versions_canary(
    version: Annotated[
        str | None,
        typer.Argument(help="A label version's name, or `stop`.", show_default="show the canary"),
    ] = None,
    share: Annotated[
        float | None, typer.Option(help="Share of live rows, above 0, at most 1, such as 0.05.")
    ] = None,
    promote: Annotated[
        bool,
        typer.Option(
            "--promote-when-better",
            help="Promote it as soon as the gate lets it pass; rows that people judged get its label too.",
        ),
    ] = False,
    taxonomy: Annotated[Path | None, typer.Option(help="Its taxonomy. [TAXONOMY_PATH]")] = None,
    model: Annotated[str | None, typer.Option(help="Its model, at the same endpoint.")] = None,
    prompt: Annotated[
        Path | None, typer.Option(help="Its prompt, a text with {domains} where the labels go.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Give a share of the live rows the label of another version too, beside their own.

    Its labels reach the tables and no subscriber. It ends by itself when too many calls fail, or when people
    say that it is worse. Without words, show the canary and what it has found.
    """
    from streams.canary.commands import CanaryRequest, begin_canary, show_canary, stop_canary
    from streams.cli.versions.commands import ask

    described = (share, taxonomy, model, prompt) != (None, None, None, None) or promote
    if version is None or version == STOP:
        if described:
            raise ConfigurationError(
                "these options describe a canary that begins",
                setting="--share",
                fix="name its version: labelstream versions canary V --share 0.05",
            )
        found = ask(show_canary if version is None else stop_canary)
    elif share is None:
        raise ConfigurationError(
            "a canary needs a share of rows", setting="--share", fix="such as --share 0.05"
        )
    else:
        asked = CanaryRequest(version, share, promote, taxonomy, model, prompt)
        found = ask(lambda settings: begin_canary(settings, asked))
    if as_json:
        print_json({"canary": found} if version is None else found)
    elif found is None:
        typer.echo("there was no canary yet")
    else:
        for line in told(found):
            typer.echo(line)


def told(canary: dict[str, Any]) -> list[str]:
    """A canary for a person, as `Jobs.as_dict` has it."""
    lines = [
        f"canary of {canary['version']}, {canary['share']:.2%} of live rows: {canary['state']} since "
        f"{canary['begun_at']}" + ", promotes by the gate" * bool(canary["promote"])
    ]
    if (stop := canary["stopped"]) is not None:
        lines.append(f"  stopped at {stop['at']} ({stop['why']}): {stop['text']}")
    found = canary["figures"]
    if found is None:
        return [*lines, "  no figures yet; a poller runs it"]
    lines.append(f"  {found['pairs']} rows with a label of both, {found['failed']} failed")
    if found["compared"]:
        moved = ", ".join(f"{one['from']} -> {one['to']} {one['rows']}" for one in found["moved"][:5])
        lines.append(
            f"  of the newest {found['compared']}, {found['agreement']:.3f} agree with {found['beside']}"
            + f"; moved: {moved}" * bool(moved)
        )
    if (judged := found["judged"]) is not None:
        lines.append(
            f"  on {judged['rows']} rows that people judged: {judged['won']} won, {judged['lost']} lost; "
            f"evidence of a loss {judged['evidence']:.3g}, stops at {judged['limit']:g}"
        )
    if found["gate"] is not None:
        lines.append(f"  gate: {found['gate']['text']}")
    return lines
