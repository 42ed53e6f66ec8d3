"""`labelstream evaluate`."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from streams.cli.common import Json, examples, print_json, read_settings
from streams.cli.progress import working

_SHOWN = 20

EXAMPLES = examples(
    "labelstream evaluate",
    "labelstream evaluate --by week --accuracy 0.97",
    "labelstream evaluate gold.csv --version mistral.1f0c2a9b --json",
)


class Grouping(StrEnum):
    """What the figures are divided by."""

    WEEK = "week"
    DOMAIN = "domain"
    LENGTH = "length"


def evaluate(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[GOLD]",
            help="A file with row_id (or text) and label, as the page or a spreadsheet saves it; and "
            "draw_probability, if its rows were drawn at random. Without it: people's labels in the tables.",
        ),
    ] = None,
    gold: Annotated[Path | None, typer.Option("--gold", help="The same file, by name.")] = None,
    version: Annotated[
        str | None, typer.Option(help="The label version to be judged.", show_default="the current one")
    ] = None,
    by: Annotated[
        Grouping | None,
        typer.Option(help="Also by week of the row (UTC), by its source domain, or by its length."),
    ] = None,
    accuracy: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Find the least confidence whose labels are so accurate."),
    ] = 0.95,
    as_json: Json = False,
) -> None:
    """Compare a label version with the labels that people gave: accuracy with its interval, each label,
    confusions, calibration, and the least confidence whose labels can be trusted."""
    if file is not None and gold is not None:
        raise typer.BadParameter("name the file once, as GOLD or with --gold", param_hint="--gold")
    from streams.quality.evaluate import EvaluationQuery
    from streams.quality.evaluate import evaluate as judge
    from streams.runtime.local_stack import with_local_stack
    from streams.versions.registry import known_scales

    settings = with_local_stack(read_settings())
    with working("comparing"):
        wish = EvaluationQuery(version, None if by is None else by.value, accuracy)

        async def compared() -> dict[str, Any]:
            return await judge(settings, file or gold, wish, await known_scales(settings))

        found = asyncio.run(compared())
    if as_json:
        print_json(found)
        return
    for line in _lines(found):
        typer.echo(line)
    for warning in found["warnings"]:
        typer.echo(warning, err=True)


def _lines(found: dict[str, Any]) -> list[str]:
    return [*_head(found), *_confidence(found), *_groups(found), *_labels(found), *_confusions(found)]


def _head(found: dict[str, Any]) -> list[str]:
    left = found["gold"] - found["labeled"]
    lines = [
        f"{found['version']}: {found['right']} of {found['labeled']} right"
        + (f"; {left} of {found['gold']} gold rows have no label of it" if left else ""),
        f"accuracy {_between(found, 'accuracy')}, macro F1 {_between(found, 'macro_f1')}",
    ]
    if found["biased"]:
        lines.append(
            "BIASED: none of these rows is known to have been drawn at random, so the figures say nothing of "
            "the others"
        )
    elif (others := found["gold"] - found["drawn"]) > 0:
        lines.append(
            f"of {found['drawn']} rows drawn at random; {others} others are only in the table of confusions"
        )
    if found["more"] and not found["biased"]:
        lines.append(f"{found['more']} more drawn rows make it +-0.02")
    if found["unlabeled"]:
        lines.append(f"{found['unlabeled']} rows of the file have no right label yet: they are not judged")
    if found.get("not_sure"):
        lines.append(f"{found['not_sure']} rows were left as not sure: they are not judged")
    if found.get("disagreements"):
        lines.append(
            f"{found['disagreements']} rows are disputed: the last answer counts until one settles it"
        )
    if found["kappa"] is not None:
        lines.append(f"two people agree with kappa {found['kappa']:.2f}")
    return lines


def _confidence(found: dict[str, Any]) -> list[str]:
    if found["ece"] is None:
        return []
    scale = "as reported" if found["calibration"] is None else f"by calibration {found['calibration']}"
    lines = [f"confidence {scale}: error {_between(found, 'ece')}, Brier score {found['brier']:.3f}"]
    least, wanted = found["least"], found["wanted"]
    if least is None:
        lines.append(f"no confidence is known to reach accuracy {wanted:g}: more drawn rows may find one")
    else:
        lines.append(
            f"from confidence {_floored(least['threshold'])} on, at least {wanted:g} are right: accuracy "
            f"{least['accuracy']:.3f} (lower bound {least['accuracy_low']:.3f}), {least['coverage']:.2f} of "
            "the rows"
        )
    return lines


def _groups(found: dict[str, Any]) -> list[str]:
    if "groups" not in found:
        return []
    return [
        f"{found['by']:32}  {'rows':>7}  {'drawn':>7}  accuracy",
        *(
            f"{one['name']:32}  {one['labeled']:>7}  {one['drawn']:>7}  {_between(one, 'accuracy')}"
            for one in found["groups"]
        ),
    ]


def _labels(found: dict[str, Any]) -> list[str]:
    return [
        f"{'label':32}  {'rows':>7}  {'precision':>22}  {'recall':>22}     F1",
        *(
            f"{one['label']:32}  {one['support']:>7}  {_between(one, 'precision'):>22}  "
            f"{_between(one, 'recall'):>22}  {_share(one['f1']):>5}"
            for one in found["labels"]
        ),
    ]


def _confusions(found: dict[str, Any]) -> list[str]:
    taken = [
        (count, right, given)
        for right, row in found["confusion"].items()
        for given, count in row.items()
        if right != given
    ]
    return [
        f"{count:>7}  {right} was taken for {given}" for count, right, given in sorted(taken, reverse=True)
    ][:_SHOWN]


def _between(found: dict[str, Any], name: str) -> str:
    low, high = found[f"{name}_low"], found[f"{name}_high"]
    told = _share(found[name])
    return told if low is None else f"{told} ({_share(low)} to {_share(high)})"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _floored(threshold: float) -> str:
    """Not rounded up: it would leave rows out."""
    return f"{int(threshold * 10_000) / 10_000:g}"
