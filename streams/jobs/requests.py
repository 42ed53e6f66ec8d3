"""Parses and checks a request, and makes a job of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from agents.label import label_spec
from agents.taxonomy import load_taxonomy
from connectors.clickhouse.queries.label_versions import name_of_current
from connectors.clickhouse.queries.relabel_rows import Condition
from connectors.llm.client import ChatClient
from streams.core.errors import ConfigurationError
from streams.core.label_version import LabelSpec, checked_prompt
from streams.core.records import Partition, partitions_of
from streams.core.settings import Settings
from streams.core.times import micros_of, moment
from streams.jobs.context import JobContext
from streams.jobs.job import Job
from streams.jobs.runner import find_poller_start
from streams.privacy.pseudonyms import pseudonyms_of
from streams.versions.registry import read_versions

_NAME = re.compile(r"^[\w.:@+-]{1,100}$")


_OFFSETS = re.compile(r"^(?:(\d+)/)?(\d+)-(\d*)$")


_PATIENCE_SECONDS = 30.0

# In each pass other texts, by their hash: so the first ones, which teach a cascade, are like the rest.
_PASSES = {"topic": 8, "table": 16}


@dataclass(frozen=True)
class ReplayRequest:
    """The options of `labelstream replay`."""

    source: Literal["topic", "table"]
    version: str | None = None
    taxonomy: Path | None = None
    model: str | None = None
    prompt: Path | None = None
    to: Literal["shadow", "labeled"] = "shadow"
    since: datetime | None = None
    until: datetime | None = None
    offsets: str | None = None
    where: list[str] = field(default_factory=list)
    limit: int | None = None
    sample: float | None = None


async def spec_of(settings: Settings, asked: ReplayRequest) -> LabelSpec:
    """The requested label version: a known one by its name, or one made of the given parts.

    Raises:
        ConfigurationError: the name belongs to another version, or its rows were dropped; a file is invalid.
        UnavailableError: Kafka or the model's endpoint does not answer.
    """
    known = await read_versions(settings)
    own = asked.taxonomy is not None or asked.model is not None or asked.prompt is not None
    name = asked.version or (None if own else settings.label_version)
    if name is not None and not _NAME.match(name):
        raise ConfigurationError(
            f"{name} cannot be the name of a label version",
            setting="--version",
            fix="at most 100 letters, digits and . : @ + - _",
        )
    spec = known.specs.get(asked.version) if asked.version is not None and not own else None
    if spec is None:
        changed: dict[str, Any] = {"label_version": None}
        if asked.model is not None:
            changed["llm_labeler_model"] = asked.model
        asking = settings.model_copy(update=changed)
        taxonomy = load_taxonomy(asked.taxonomy or settings.taxonomy_path)
        client = ChatClient.from_settings(asking, "labeler", patience_seconds=_PATIENCE_SECONDS)
        try:
            if asked.model is not None and asked.model not in (offered := await client.models()):
                raise ConfigurationError(
                    f"the endpoint does not offer the model {asked.model}",
                    setting="--model",
                    fix=f"it offers {', '.join(offered) or 'none'}; another endpoint needs its own workers",
                )
            spec = await label_spec(asking, client, taxonomy, version=name, prompt=_prompt(asked.prompt))
        finally:
            await client.close()
    if asked.version is None:
        spec = known.under_own_name(spec)  # as the workers do
    other = known.specs.get(spec.version)
    if other is not None and (difference := other.difference(spec)):
        raise ConfigurationError(
            f"label version {spec.version} is known with another {difference}",
            setting="--version",
            fix="choose another name: what a version asks never changes",
        )
    known.usable(spec.version)
    return spec


async def replay_job(context: JobContext, asked: ReplayRequest, spec: LabelSpec) -> Job:
    """The job, not recorded yet.

    Raises:
        ConfigurationError: an invalid range or condition.
    """
    where = asked.where
    by_proxy = any(Condition.parse(text).chooses_proxy for text in where)
    pseudonyms = pseudonyms_of(context.settings) if context.settings.privacy == "mask" else None
    if pseudonyms is not None:  # the rows have them, and the job is published
        where = [Condition.without_ids(text, pseudonyms) for text in where]
    job = Job(
        source=asked.source,
        version=spec.version,
        to=asked.to,
        since=micros_of(asked.since) if asked.since else None,
        until=micros_of(asked.until) if asked.until else None,
        where=where,
        limit=asked.limit,
        sample=asked.sample,
        passes=_PASSES[asked.source] if context.settings.cascade == "on" else 1,
    )
    if asked.source == "topic":
        if asked.where:
            raise ConfigurationError(
                "the rows topic holds no labels to choose by", setting="--where", fix="use --from-table"
            )
        topic = context.topics.rows
        job.source_topic_id = str(await context.admin.topic_id(topic))
        job.starts, job.ends = await _range(context, topic, asked)
    elif asked.offsets:
        raise ConfigurationError("a table has no offsets", setting="--offsets", fix="use --since and --until")
    elif by_proxy and spec.version == await name_of_current(context.client, context.settings):
        # What the proxy of this very version labelled is to get another label under it.
        job.again, job.passes, job.where = True, 1, [*job.where, f"version={spec.version}"]
    return job


async def backfill_job(
    context: JobContext,
    *,
    since: datetime | None,
    until: datetime | None,
    limit: int | None,
    sample: float | None,
) -> Job:
    """The job, not recorded yet. It ends where the poller's own rows begin.

    Raises:
        ConfigurationError: no poller has run yet, or the whole range is the poller's.
    """
    begins = await find_poller_start(context)
    if begins is None:
        raise ConfigurationError(
            f"no poller has begun to read {context.settings.source_table}, "
            "so nobody knows which rows are its own",
            setting="POLL_START",
            fix="start the poller first, with POLL_START=now to leave older rows to the backfill",
        )
    end = min(micros_of(until), begins) if until is not None else begins
    if since is not None and micros_of(since) >= end:
        raise ConfigurationError(
            f"rows from {moment(begins).isoformat()} on are the poller's, which publishes them by itself",
            setting="--since",
            fix="give an earlier time",
        )
    return Job(
        source="source",
        to="labeled",
        since=micros_of(since) if since else None,
        until=end,
        limit=limit,
        sample=sample,
    )


async def _range(
    context: JobContext, topic: str, asked: ReplayRequest
) -> tuple[dict[int, int], dict[int, int]]:
    places = partitions_of(topic, context.settings.topic_partitions)
    bounds = await context.tail.bounds_many(places)
    first = {place.partition: begin for place, (begin, _) in bounds.items()}
    last = {place.partition: end for place, (_, end) in bounds.items()}
    if asked.since is not None:
        first = await _at(context, places, asked.since)
    if asked.until is not None:
        last = await _at(context, places, asked.until)
    if asked.offsets is not None:
        chosen = _offsets(asked.offsets, sorted(last))
        first = {number: max(first[number], chosen[number][0]) for number in chosen}
        last = {
            number: min(last[number], end if (end := chosen[number][1]) is not None else last[number])
            for number in chosen
        }
    return first, last


async def _at(context: JobContext, places: list[Partition], at: datetime) -> dict[int, int]:
    found = await context.lags.offsets_at(places, micros_of(at) // 1000)
    return {place.partition: offset for place, offset in found.items()}


def _offsets(text: str, partitions: list[int]) -> dict[int, tuple[int, int | None]]:
    """`0-5000` for all partitions, or `2/0-5000,3/100-` for some; the end is exclusive, without an end all
    are meant.

    Raises:
        ConfigurationError: it has another form.
    """
    chosen: dict[int, tuple[int, int | None]] = {}
    for part in text.split(","):
        found = _OFFSETS.match(part.strip())
        number = int(found[1]) if found and found[1] else None
        if found is None or (number is not None and number not in partitions):
            raise ConfigurationError(
                f"{part} is no range of offsets",
                setting="--offsets",
                fix="write 0-5000 for all partitions, or 2/0-5000,3/100- for some",
            )
        span = (int(found[2]), int(found[3]) if found[3] else None)
        chosen |= dict.fromkeys(partitions if number is None else [number], span)
    return chosen


def _prompt(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return checked_prompt(path.read_text("utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the prompt {path} cannot be read: {error}", setting="--prompt") from error
