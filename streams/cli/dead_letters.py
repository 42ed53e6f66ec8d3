"""`labelstream dead-letters ...`."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from streams.cli.common import Json, examples, moment_in, print_json, read_settings
from streams.cli.progress import working

letters_app = typer.Typer(no_args_is_help=True, help="What was given up, and another try for it.")

Reason = Annotated[str | None, typer.Option(help="Only this reason, such as invalid-answer.")]
StepName = Annotated[str | None, typer.Option(help="Only this step: poll, mask, label, augment or store.")]
Since = Annotated[str | None, typer.Option(help="Only from this time on, such as 2026-01-31T00:00:00Z.")]


@letters_app.command(
    "list",
    epilog=examples(
        "labelstream dead-letters list",
        "labelstream dead-letters list --step label --since 2026-01-31T00:00:00Z",
    ),
)
def letters_list(
    reason: Reason = None,
    step: StepName = None,
    since: Since = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 20,
    as_json: Json = False,
) -> None:
    """Show dead letters, newest first: content, origin, reason, and whether the row was processed since."""
    from streams.operations.dead_letters import list_dead_letters
    from streams.runtime.local_stack import with_local_stack

    settings = with_local_stack(read_settings())
    first = moment_in(since)
    with working("looking for dead letters"):
        found = asyncio.run(list_dead_letters(settings, reason=reason, step=step, since=first, limit=limit))
    if as_json:
        print_json(found)
        return
    for one in found["dead_letters"]:
        state = "resolved" if one["resolved"] else "open"
        origin = f"{one['topic']}/{one['partition']}/{one['offset']}"
        typer.echo(
            f"{one['failed_at']}  {state:8}  {one['step']:7}  {one['reason']:16}  "
            f"row {one['row_id'] or '-'}  from {origin}\n    {one['error'][:200]}"
        )
        typer.echo(f"    {str(one.get('payload') or one.get('payload_base64') or '')[:200]!r}")
    typer.echo(f"{found['total']} in all")
    for count in found["counts"]:
        typer.echo(f"{count['count']:8}  {count['step']:7}  {count['reason']}")


@letters_app.command(
    "retry",
    epilog=examples(
        "labelstream dead-letters retry --reason invalid-answer",
        "labelstream dead-letters retry --limit 100 --json",
    ),
)
def letters_retry(
    reason: Reason = None,
    step: StepName = None,
    since: Since = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 1_000_000,
    as_json: Json = False,
) -> None:
    """Retry the open ones: through the replay topic, or into the table that refused them."""
    from streams.operations.dead_letters import retry_dead_letters
    from streams.runtime.local_stack import with_local_stack

    settings = with_local_stack(read_settings())
    first = moment_in(since)
    with working("trying again") as say:
        done = asyncio.run(
            retry_dead_letters(
                settings,
                reason=reason,
                step=step,
                since=first,
                limit=limit,
                report=lambda done: say(f"trying again: {done} done"),
            )
        )
    if as_json:
        print_json(done)
        return
    typer.echo(f"{done['retried']} sent to be worked on again, {done['stored']} stored")
    for why, count in done["left"].items():
        typer.echo(f"{count} left: {why}")
