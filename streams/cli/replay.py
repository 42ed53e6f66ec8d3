"""`labelstream replay ...` and `labelstream backfill`."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer

from streams.cli.common import Json, console, examples, moment_in, print_json, read_settings, until_signal
from streams.cli.progress import counted, working
from streams.core.errors import ConfigurationError
from streams.observability.logs import configure_logs

replay_app = typer.Typer(
    invoke_without_command=True,
    help="Label rows again, under another version, while live rows go on.",
)

BACKFILL_EXAMPLES = examples(
    "labelstream backfill --dry-run", "labelstream backfill --since 2025-01-01T00:00:00Z --no-wait"
)

Since = Annotated[str | None, typer.Option(help="Only from this time on, such as 2026-01-31T00:00:00Z.")]
Until = Annotated[str | None, typer.Option(help="Only before this time.")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most so many rows.")]
Sample = Annotated[float | None, typer.Option(min=0.0, max=1.0, help="This share of the rows, by chance.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what it would cost, and publish nothing.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="End when all is published, before it is labelled.")]
JobId = Annotated[str, typer.Argument(help="A job's id: `replay list` shows them.")]


@replay_app.callback(
    epilog=examples(
        "labelstream replay --from-topic --taxonomy new.yaml --dry-run",
        "labelstream replay --from-table --model mistral-small --where 'confidence<0.6' --sample 0.1",
        "labelstream replay --from-topic --version v2 --since 2026-01-31T00:00:00Z --to labeled",
    )
)
def replay(
    context: typer.Context,
    from_topic: Annotated[
        bool, typer.Option("--from-topic", help="Rows that the rows topic still holds; times are Kafka's.")
    ] = False,
    from_table: Annotated[
        bool, typer.Option("--from-table", help="Rows of logs_labeled_current; times are created_at.")
    ] = False,
    version: Annotated[
        str | None, typer.Option(help="Name of the label version. [made from model, prompt and taxonomy]")
    ] = None,
    taxonomy: Annotated[Path | None, typer.Option(help="Its taxonomy. [TAXONOMY_PATH]")] = None,
    model: Annotated[str | None, typer.Option(help="Its model, at the same endpoint.")] = None,
    prompt: Annotated[
        Path | None, typer.Option(help="Its prompt, a text with {domains} where the labels go.")
    ] = None,
    to: Annotated[
        str, typer.Option(help="`shadow`: into the tables only, or `labeled`: to the subscribers too.")
    ] = "shadow",
    since: Since = None,
    until: Until = None,
    offsets: Annotated[
        str | None, typer.Option(help="From the topic: 0-5000, or 2/0-5000,3/100- for some partitions.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(help="From the table: label=payment, confidence<0.6, decided_by=proxy ..."),
    ] = None,
    limit: Limit = None,
    sample: Sample = None,
    dry_run: DryRun = False,
    no_wait: NoWait = False,
    as_json: Json = False,
) -> None:
    """Label rows again. It may be stopped at any time, and resumed by its id."""
    if context.invoked_subcommand is not None:
        return
    if from_topic == from_table:
        raise ConfigurationError(
            "a replay takes its rows from one place",
            setting="--from-topic",
            fix="give --from-topic, or --from-table for what the topic no longer holds",
        )
    if to not in ("shadow", "labeled"):
        raise ConfigurationError(f"there is no {to} to replay to", setting="--to", fix="shadow or labeled")
    from streams.jobs.requests import ReplayRequest, replay_job, spec_of

    asked = ReplayRequest(
        source="topic" if from_topic else "table",
        version=version,
        taxonomy=taxonomy,
        model=model,
        prompt=prompt,
        to=cast(Literal["shadow", "labeled"], to),
        since=moment_in(since),
        until=moment_in(until),
        offsets=offsets,
        where=where or [],
        limit=limit,
        sample=sample,
    )

    async def make(context: Any) -> tuple[Any, Any]:
        spec = await spec_of(context.settings, asked)
        return await replay_job(context, asked, spec), spec

    _start(make, dry_run=dry_run, wait=not no_wait, as_json=as_json)


def backfill(
    since: Since = None,
    until: Until = None,
    limit: Limit = None,
    sample: Sample = None,
    dry_run: DryRun = False,
    no_wait: NoWait = False,
    as_json: Json = False,
) -> None:
    """Label old rows of the source table that have no label, beside live rows."""
    from streams.jobs.requests import backfill_job

    first, last = moment_in(since), moment_in(until)

    async def make(context: Any) -> tuple[Any, Any]:
        return await backfill_job(context, since=first, until=last, limit=limit, sample=sample), None

    _start(make, dry_run=dry_run, wait=not no_wait, as_json=as_json)


@replay_app.command("list", epilog=examples("labelstream replay list"))
def replay_list(as_json: Json = False) -> None:
    """List replays and backfills, newest first."""
    from streams.jobs.commands import list_jobs

    found = _ask("reading the jobs", list_jobs(_settings()))
    if as_json:
        print_json({"jobs": found})
        return
    for one in found:
        typer.echo(_line(one))


@replay_app.command("show", epilog=examples("labelstream replay show 20260131-093000-1a2b --json"))
def replay_show(job: JobId, as_json: Json = False) -> None:
    """Show the state of one."""
    from streams.jobs.commands import show_job

    found = _ask("reading the jobs", show_job(_settings(), job))
    print_json(found) if as_json else typer.echo(_line(found))


@replay_app.command("pause", epilog=examples("labelstream replay pause 20260131-093000-1a2b"))
def replay_pause(job: JobId, as_json: Json = False) -> None:
    """Stop publishing for now; published rows are labelled."""
    _steer(job, "pause", as_json)


@replay_app.command("cancel", epilog=examples("labelstream replay cancel 20260131-093000-1a2b"))
def replay_cancel(job: JobId, as_json: Json = False) -> None:
    """Stop publishing. It can still be resumed, or dropped."""
    _steer(job, "cancel", as_json)


@replay_app.command("resume", epilog=examples("labelstream replay resume 20260131-093000-1a2b"))
def replay_resume(job: JobId, no_wait: NoWait = False, as_json: Json = False) -> None:
    """Continue one that was paused, cancelled or interrupted; no row is published twice."""
    from streams.jobs.commands import set_wish
    from streams.jobs.job import Wish

    _ask("telling the job", set_wish(_settings(), job, Wish.RUN))
    _work(job, wait=not no_wait, as_json=as_json)


@replay_app.command("drop", epilog=examples("labelstream replay drop 20260131-093000-1a2b"))
def replay_drop(job: JobId, as_json: Json = False) -> None:
    """Stop it, and remove its rows from the tables for good."""
    from streams.jobs.commands import drop_job

    def say(what: str) -> None:
        if not as_json:
            console.print(what)

    done = _ask("taking the rows out", drop_job(_settings(), job, say))
    print_json(done) if as_json else typer.echo(f"{done['rows']} rows of {done['version']} taken out")


def _start(make: Any, *, dry_run: bool, wait: bool, as_json: bool) -> None:
    from streams.jobs.commands import request_job

    found = _ask("looking at the rows", request_job(_settings(), make, dry_run=dry_run))
    if not dry_run:
        typer.echo(f"job {found['id']}; to go on with it: labelstream replay resume {found['id']}", err=True)
        _work(found["id"], wait=wait, as_json=as_json)
    elif as_json:
        print_json(found)
    else:
        for name, value in found.items():
            shown = "unknown" if value is None else f"{value:.1f}" if isinstance(value, float) else value
            typer.echo(f"{name.replace('_', ' '):16} {shown}")


def _work(job: str, *, wait: bool, as_json: bool) -> None:
    from streams.jobs.runner import run_job

    settings = _settings()
    configure_logs("warning", settings.log_format)
    bar = counted()
    task = bar.add_task("publishing", total=None)
    done: dict[str, Any] = {}

    def report(found: Any, left: int) -> None:
        # Published rows that the workers have not processed are not done yet.
        total = max(found.expected, found.published + found.settled)
        past = max(0, found.published + found.settled + found.unreadable - left)
        words = "labelling" if found.complete else "publishing"
        bar.update(task, total=total, completed=past, description=words)

    async def go() -> None:
        done.update(await run_job(settings, job, report, wait=wait))

    with bar:
        until_signal(go())
    if as_json:
        print_json(done or {"id": job, "state": "interrupted"})
    elif done:
        typer.echo(_line(done))
    if not done:
        raise typer.Exit(130)


def _steer(job: str, wish: str, as_json: bool) -> None:
    from streams.jobs.commands import set_wish
    from streams.jobs.job import Wish

    found = _ask("telling the job", set_wish(_settings(), job, Wish(wish)))
    print_json(found) if as_json else typer.echo(_line(found))


def _ask(what: str, answer: Coroutine[Any, Any, Any]) -> Any:
    with working(what):
        return asyncio.run(answer)


def _settings() -> Any:
    from streams.runtime.local_stack import with_local_stack

    return with_local_stack(read_settings())


def _line(job: dict[str, Any]) -> str:
    kind = (
        "backfill"
        if job["source"] == "source"
        else f"from {job['source']} as {job['version']} to {job['to']}"
    )
    return (
        f"{job['id']}  {job['state']:11}  {job['published']}/{job['expected']} published, "
        f"{job['settled']} left out  {kind}"
    )
