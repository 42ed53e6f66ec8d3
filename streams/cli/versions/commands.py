"""`labelstream versions ...` and `labelstream cascade ...`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from typing import Annotated, Any

import typer

from streams.cli.common import Json, account, examples, print_json, read_settings, state_of
from streams.cli.progress import working
from streams.cli.versions.canary import told, versions_canary
from streams.core.errors import GateError, LabelstreamError

versions_app = typer.Typer(no_args_is_help=True, help="Label versions: which one is a row's current label.")

Version = Annotated[str, typer.Argument(help="A label version's name.")]


@versions_app.command("list", epilog=examples("labelstream versions list"))
def versions_list(as_json: Json = False) -> None:
    """List all versions: promoted ones first, the current one at the top; and the last canary."""
    from streams.canary.commands import show_canary
    from streams.versions.commands import versions_known

    async def both(settings: Any) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
        found = await versions_known(settings)
        with contextlib.suppress(LabelstreamError):  # Kafka need not answer
            return found, await show_canary(settings)
        return found, None

    found, canary = ask(both)
    if as_json:
        print_json({"versions": found, "canary": canary})
        return
    for one in found:
        typer.echo(f"{one['version']:40}  {state_of(one):11}  {one['rows'] or 0:>10} rows  {one['model']}")
    for line in told(canary) if canary is not None else ():
        typer.echo(line)


@versions_app.command("show", epilog=examples("labelstream versions show mistral.1f0c2a9b"))
def versions_show(version: Version, as_json: Json = False) -> None:
    """Show a version's prompts, model and taxonomy, and its history."""
    from streams.versions.commands import version_shown

    found = ask(lambda settings: version_shown(settings, version))
    if as_json:
        print_json(found)
        return
    typer.echo(
        f"{version}: {found['status']}, {found['rows']} rows, model {found['model']}, mode {found['mode']}"
    )
    typer.echo(f"prompt {found['prompt']}, taxonomy {found['taxonomy']}")
    for change in found["history"]:
        typer.echo(f"  {change['changed_at']}  {change['status']}")
    for name, text in (found["spec"] or {}).get("prompts", {}).items():
        typer.echo(f"--- prompt {name}\n{text}")
    for domain in (found["spec"] or {}).get("taxonomy", {}).get("domains", []):
        typer.echo(f"  {domain['name']:24} {domain['title']}")


@versions_app.command(
    "promote",
    epilog=examples(
        "labelstream versions promote mistral.1f0c2a9b",
        "labelstream versions promote mistral.1f0c2a9b --force",
    ),
)
def versions_promote(
    version: Version,
    force: Annotated[
        bool, typer.Option("--force", help="Also if the gate refuses it; noted in the audit log.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make it the current version of every row that has it, at once. Promote the former one to go back.

    It is first compared with the current version on the rows that people labelled. If it is worse there, or
    the rows are too few to tell, it is refused with exit code 3.
    """
    from streams.versions.commands import promote

    try:
        found = ask(lambda settings: promote(settings, version, force=force, audited_as=account()))
    except GateError as error:
        if as_json:
            print_json({"version": version, "promoted": False, "verdict": error.verdict})
        raise
    if as_json:
        print_json({**found, "promoted": True})
        return
    if text := found["verdict"]["text"]:
        typer.echo(text, err=found["verdict"]["answer"] is None)
    _tell(found, as_json)


@versions_app.command("retire", epilog=examples("labelstream versions retire mistral.1f0c2a9b"))
def versions_retire(version: Version, as_json: Json = False) -> None:
    """No longer show it: rows are shown with the most recently promoted other version that they have."""
    from streams.versions.commands import retire

    _tell(ask(lambda settings: retire(settings, version)), as_json)


@versions_app.command(
    "calibrate",
    epilog=examples(
        "labelstream versions calibrate", "labelstream versions calibrate mistral.1f0c2a9b --json"
    ),
)
def versions_calibrate(
    version: Annotated[
        str | None, typer.Argument(help="A label version's name.", show_default="the current one")
    ] = None,
    as_json: Json = False,
) -> None:
    """Fit the confidence of a version to how often it is right, by the rows of the audit that people judged.

    From then on all workers publish calibrated confidence, and name the calibration's generation.
    """
    from streams.versions.calibrate import calibrate

    found = ask(lambda settings: calibrate(settings, version))
    if as_json:
        print_json(found)
        return
    losses = (
        f"log loss of rows left out {found['log_loss']:.4f}, of raw confidence {found['log_loss_raw']:.4f}"
    )
    if found["method"] == "raw":
        typer.echo(
            f"{found['version']}: raw confidence stays, nothing is better on {found['rows']} rows; {losses}"
        )
    else:
        said = "" if found["published"] else ", as before"
        typer.echo(
            f"{found['version']}: {found['method']}, generation {found['generation']}{said}, fitted on "
            f"{found['rows']} rows; {losses}"
        )


@versions_app.command(
    "diff",
    epilog=examples(
        "labelstream versions diff mistral.1f0c2a9b mistral.77d0e3aa",
        "labelstream versions diff v1 v2 --changed 50",
    ),
)
def versions_diff(
    a: Annotated[str, typer.Argument(help="The version to compare with.")],
    b: Annotated[str, typer.Argument(help="The version to be judged.")],
    changed: Annotated[
        int | None, typer.Option(min=0, help="List so many changed rows. [with --json 100000, else 0]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what changed from A to B: agreement, labels, confidence, weeks, and the most relevant examples."""
    from streams.versions.commands import compare

    wanted = changed if changed is not None else 100_000 if as_json else 0
    found = ask(lambda settings: compare(settings, a, b, wanted))
    if as_json:
        print_json({**asdict(found), "agreement": found.agreement, "changed_rows": found.rows - found.agree})
        return
    from streams.cli.versions.diff import show_diff

    show_diff(found)


versions_app.command(
    "canary",
    epilog=examples(
        "labelstream versions canary v2 --share 0.05 --taxonomy new.yaml",
        "labelstream versions canary v2 --share 0.05 --promote-when-better",
        "labelstream versions canary",
        "labelstream versions canary stop",
    ),
)(versions_canary)


def ask(work: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
    """Run ``work`` with the settings of the local stack."""
    from streams.runtime.local_stack import with_local_stack

    settings = with_local_stack(read_settings())
    with working("asking ClickHouse"):
        return asyncio.run(work(settings))


def _tell(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        typer.echo(
            f"{found['version']} is {found['status']}; the current version is {found['current'] or 'none'}"
        )


cascade_app = typer.Typer(
    no_args_is_help=True, help="The cascade: a proxy labels what it is sure of, the model the rest."
)

OfVersion = Annotated[
    str | None, typer.Option("--version", help="The label version.", show_default="the current one")
]

_WHY = {
    "proxy": "the proxy labels it",
    "audit": "the model labels it: the proxy is sure, and the text is of the audited share",
    "unsure": "the model labels it: the score is below the threshold",
    "vetoed": "the model labels it: the proxy may not give this label",
    "novel": "the model labels it: it is unlike the texts that taught the proxy",
    "none": "the model labels it: no proxy is certified",
}


@cascade_app.command(
    "status", epilog=examples("labelstream cascade status", "labelstream cascade status --version v2 --json")
)
def cascade_status(version: OfVersion = None, as_json: Json = False) -> None:
    """Show where a version's cascade stands: its proxy, what is certified, and the calls that it saves."""
    from streams.versions.cascade import cascade_status as status

    found = ask(lambda settings: status(settings, version))
    if as_json:
        print_json(found)
        return
    for line in _cascade_lines(found):
        typer.echo(line)


@cascade_app.command("reset", epilog=examples("labelstream cascade reset --version v2"))
def cascade_reset(version: OfVersion = None, as_json: Json = False) -> None:
    """Begin anew: the proxy labels nothing from now on, and nothing that was learned counts.

    Published labels stay. `labelstream replay --from-table --where decided_by=proxy` has the model label
    again what the proxy labelled.
    """
    from streams.versions.cascade import reset_cascade

    found = ask(lambda settings: reset_cascade(settings, version, audited_as=account()))
    if as_json:
        print_json(found)
    else:
        typer.echo(f"the cascade of {found['version']} begins anew")


@cascade_app.command("explain", epilog=examples("labelstream cascade explain 'где мой заказ'"))
def cascade_explain(
    text: Annotated[str, typer.Argument(help="A query, as it would come.")],
    version: OfVersion = None,
    as_json: Json = False,
) -> None:
    """Say who labels a text and why: label, score, threshold, and the n-grams that speak most for it."""
    from streams.versions.cascade import explain

    found = ask(lambda settings: explain(settings, text, version))
    if as_json:
        print_json(found)
        return
    typer.echo(f"{found['version']}: {_WHY[found['decision']]}")
    if found["label"] is None:
        return
    threshold = "none" if found["threshold"] is None else f"{found['threshold']:.3f}"
    typer.echo(
        f"  generation {found['proxy']} says {found['label']}, score {found['score']:.3f}, "
        f"threshold {threshold}, {'known' if found['known'] else 'novel'}"
    )
    for one in found["ngrams"]:
        typer.echo(f"  {one['weight']:+7.3f}  {one['ngram']!r}")


def _cascade_lines(found: dict[str, Any]) -> list[str]:
    lines = [
        f"{found['version']}: {found['state']}, generation {found['generation']}, CASCADE={found['mode']}"
    ]
    if found["threshold"] is not None:
        share = found["calls_saved_share"]
        saved = "" if share is None else f" ({share:.0%} of the new texts)"
        would = "would have saved" if found["mode"] == "shadow" else "saved"
        delay = (
            "" if found["delay_minutes"] is None else f", a loss is found in {found['delay_minutes']:.0f} min"
        )
        lines += [
            f"  labels texts with a score of at least {found['threshold']:.3f}, "
            f"{found['coverage'] or 0:.0%} of them",
            f"  certified against {'people' if found['certified_against'] == 'people' else 'the model'}, "
            f"at most {found['bound'] or 0:.1%} lost",
            f"  {would} {found['calls_saved']} calls so far{saved}",
            f"  audits {found['audit_rate']:.1%} of these, {found['audits']} so far{delay}",
        ]
        if found["vetoed"]:
            lines.append(f"  the model keeps {', '.join(found['vetoed'])}")
    elif found["state"] == "learning":
        lines.append(f"  taught by {found['taught']} texts so far")
    if found["asked_twice"]:
        twice, otherwise = found["asked_twice"], found["differed_twice"]
        lines.append(f"  the model labelled {twice} texts twice, {otherwise} of them otherwise")
    if found["state"] == "revoked":
        lines.append(f"  revoked {found['revoked_at']}: {found['revoked_why']}")
    return lines
