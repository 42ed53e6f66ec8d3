"""Replays and backfills as jobs: what each one does, its progress, and what somebody wishes it to do.

Kept in the compacted cursor topic. The publisher writes ``job/<id>``, anybody may write ``job/<id>/wish``, so
that neither overwrites the other. ``job/<id>/asked`` is a requested job; several processes may request the
same one at a time. What the publisher wrote takes precedence over it. ``job/<id>/figures``: what a canary has
found so far.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streams.core.errors import ConfigurationError
from streams.core.losses import Losses
from streams.core.records import Outgoing, Record
from streams.core.settings import Settings
from streams.core.topics import Topics
from streams.ports.kafka import Tail

_KEY = "job/"
_WISH = "/wish"
_ASKED = "/asked"
_FIGURES = "/figures"
_SILENT_SECONDS = 30.0
UNFINISHED = ("waiting", "running", "publishing", "working", "paused", "cancelled", "interrupted")


class Wish(StrEnum):
    """What somebody wishes a job to do."""

    RUN = "run"
    PAUSE = "pause"
    CANCEL = "cancel"
    DROP = "drop"


class Stop(BaseModel):
    """Why a canary was stopped: ``why`` is `asked`, `failures`, `loss`, `promoted` or `live` (its version is
    that of live rows now). ``text``: for a person.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    why: str
    text: str = ""
    at: datetime = Field(default_factory=lambda: datetime.now(UTC))


class FileSource(BaseModel):
    """An uploaded file: its id, how it is read, and the digest in the ids of its rows.

    ``reading`` and ``columns``: see `connectors.files`. ``digest``: part of the rows' ids. ``time``: for rows
    without a time.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str
    name: str = ""
    digest: str
    reading: dict[str, Any]
    columns: dict[str, Any]
    time: datetime


class Job(BaseModel):
    """The definition of a job, which never changes, and its progress.

    ``source``: `topic` (rows of `esk.rows`), `table` (rows of `logs_labeled`), `source` (the source table: a
    backfill), `file` (an uploaded one) or `live` (a canary: live rows as they are labelled, without end).
    ``version``: None for the version of live rows. ``kept``: any process of the API runs it; otherwise the
    command that started it, and a canary the poller. ``since`` and ``until``: microseconds since 1970.
    ``starts`` and ``ends``: offsets of the rows topic by partition, of a canary of the labels'. ``position``:
    where reading the source continues. ``replay_starts``: offsets on the replay topic from which on messages
    may have been published after ``position`` was saved; ``replay_ends``: the offsets after the last message.
    ``settled``: rows left out because they were labelled already or in flight. ``skipped``: rows whose text
    is too short. ``export``: the file with the rows of a fetch. ``share``: of live rows that a canary draws;
    ``promote``: whether it promotes its version when the gate lets it pass; ``labels_before``: labels that
    the version had; ``letters``: where the dead letters ended, by partition. ``again``: its rows have a label
    under ``version``, and get another one. ``proxy_since``: of the table only the rows that the proxy of
    ``version`` labelled since then, microseconds since 1970; they are labelled again under it. ``passes``:
    how often the source is read, each time other texts, by their hash: so they come in random order.
    ``lost``: messages that topics lost while it ran, by the id of the `Loss`: its end, up to which the rows
    were published again.
    """

    model_config = ConfigDict(extra="ignore")

    id: str = Field(default_factory=lambda: f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}")
    source: Literal["topic", "table", "source", "file", "live"]
    version: str | None = None
    to: Literal["shadow", "labeled"] = "shadow"
    since: int | None = None
    until: int | None = None
    where: list[str] = Field(default_factory=list)
    limit: int | None = None
    sample: float | None = None
    starts: dict[int, int] = Field(default_factory=dict)
    ends: dict[int, int] = Field(default_factory=dict)
    source_topic_id: str = ""
    file: FileSource | None = None
    kept: bool = False
    export: str | None = None
    share: float | None = None
    promote: bool = False
    labels_before: int = 0
    letters: dict[int, int] = Field(default_factory=dict)
    proxy_since: int | None = None
    again: bool = False
    passes: int = 1
    begun_at: datetime = Field(default_factory=lambda: datetime.now(UTC))

    expected: int = 0
    position: Any = None
    replay_starts: dict[int, int] = Field(default_factory=dict)
    replay_ends: dict[int, int] = Field(default_factory=dict)
    replay_topic_id: str = ""
    lost: dict[str, int] = Field(default_factory=dict)
    read: int = 0
    published: int = 0
    settled: int = 0
    unreadable: int = 0
    skipped: int = 0
    complete: bool = False  # everything is published
    done: bool = False  # everything is labelled and stored
    updated_at: datetime = Field(default_factory=lambda: datetime.now(UTC))

    @property
    def repeats(self) -> bool:
        """Whether rows that have a label of ``version`` get another one."""
        return self.again or self.proxy_since is not None

    def message(self, topics: Topics) -> Outgoing:
        """For the cursor topic."""
        value = orjson.dumps(self.model_dump(), option=orjson.OPT_NON_STR_KEYS)
        return Outgoing(topics.cursor, 0, f"{_KEY}{self.id}".encode(), value)

    def asked_message(self, topics: Topics) -> Outgoing:
        """For the cursor topic, from a process that requests it and does not publish."""
        value = orjson.dumps(self.model_dump(), option=orjson.OPT_NON_STR_KEYS)
        return Outgoing(topics.cursor, 0, f"{_KEY}{self.id}{_ASKED}".encode(), value)


def wish_message(topics: Topics, job: str, wish: Wish, stop: Stop | None = None) -> Outgoing:
    """For the cursor topic. ``stop``: why a canary is to stop."""
    told = {"wish": wish.value} | ({"stop": stop.model_dump()} if stop is not None else {})
    return Outgoing(topics.cursor, 0, f"{_KEY}{job}{_WISH}".encode(), orjson.dumps(told))


def figures_message(topics: Topics, job: str, figures: dict[str, Any]) -> Outgoing:
    """For the cursor topic: what a canary has found so far."""
    return Outgoing(topics.cursor, 0, f"{_KEY}{job}{_FIGURES}".encode(), orjson.dumps(figures))


class Jobs:
    """The jobs on the cursor topic so far."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.wishes: dict[str, Wish] = {}
        self.stops: dict[str, Stop] = {}
        self.figures: dict[str, dict[str, Any]] = {}

    def learn(self, record: Record) -> None:
        """Read a message of the topic, in order; those of the poller are ignored."""
        key = (record.key or b"").decode("utf-8", "replace")
        if not key.startswith(_KEY):
            return
        try:
            if key.endswith(_WISH):
                told = orjson.loads(record.value or b"")
                name = key.removeprefix(_KEY).removesuffix(_WISH)
                self.wishes[name] = Wish(told["wish"])
                self.stops.pop(name, None)
                if told.get("stop"):
                    self.stops[name] = Stop.model_validate(told["stop"])
            elif key.endswith(_FIGURES):
                self.figures[key.removeprefix(_KEY).removesuffix(_FIGURES)] = dict(
                    orjson.loads(record.value or b"")
                )
            elif key.endswith(_ASKED):
                job = Job.model_validate_json(record.value or b"")
                self.jobs.setdefault(job.id, job)
            else:
                job = Job.model_validate_json(record.value or b"")
                self.jobs[job.id] = job
        except (ValidationError, ValueError, KeyError, TypeError):
            return

    def wish(self, job: str) -> Wish:
        return self.wishes.get(job, Wish.RUN)

    def state(self, job: Job) -> str:
        """One of `dropped`, `cancelled`, `paused`, `done`, `working` (everything is published), `publishing`,
        `waiting` (for another job), or `interrupted` (its publisher is gone). A canary is `running` or
        `stopped` instead of publishing and cancelled, and `waiting` until a poller runs it.
        """
        wish = self.wish(job.id)
        if wish is Wish.DROP:
            return "dropped"
        if job.done:
            return "done"
        live = job.source == "live"
        if wish is Wish.CANCEL:
            return "stopped" if live else "cancelled"
        if wish is Wish.PAUSE:
            return "paused"
        if job.complete:
            return "working"
        if (job.kept or live) and not job.replay_topic_id:
            return "waiting"
        silent = (datetime.now(UTC) - job.updated_at).total_seconds()
        if silent >= _SILENT_SECONDS:
            return "interrupted"
        return "running" if live else "publishing"

    def canaries(self) -> list[Job]:
        """Those that run, or are to run. Only the first one may: it has run already, or stands first on the
        topic, which all processes read in one order.
        """
        found = [job for job in self.jobs.values() if job.source == "live" and self.wish(job.id) is Wish.RUN]
        return sorted(found, key=lambda job: not job.replay_topic_id)

    def canary(self) -> Job | None:
        """The canary that runs, or is to run."""
        return next(iter(self.canaries()), None)

    def last_canary(self) -> Job | None:
        """The canary that runs; else the one that began last, and was not dropped. None: there was none."""
        known = (
            job for job in self.newest_first() if job.source == "live" and self.wish(job.id) is not Wish.DROP
        )
        return self.canary() or next(known, None)

    def named(self, job: str) -> Job:
        """The job of that id.

        Raises:
            ConfigurationError: there is none.
        """
        if job not in self.jobs:
            raise ConfigurationError(
                f"there is no replay {job}", fix="`labelstream replay list` shows them, newest first"
            )
        return self.jobs[job]

    def newest_first(self) -> list[Job]:
        """All of them."""
        return sorted(self.jobs.values(), key=lambda job: job.begun_at, reverse=True)

    def as_dict(self, job: Job) -> dict[str, Any]:
        """For reports: without the fields that only the publisher needs."""
        told = job.model_dump(
            mode="json",
            exclude={
                "position",
                "replay_starts",
                "replay_ends",
                "replay_topic_id",
                "source_topic_id",
                "starts",
                "ends",
                "labels_before",
                "letters",
            },
        )
        told["state"] = self.state(job)
        if job.source == "live":
            stop = self.stops.get(job.id)
            told["stopped"] = None if stop is None else stop.model_dump(mode="json")
            told["figures"] = self.figures.get(job.id)
        return told


async def read_cursor_topic(topics: Topics, tail: Tail) -> tuple[Jobs, Losses]:
    """The jobs and the losses that are recorded on the cursor topic, which is read once.

    Raises:
        UnavailableError, AccessError.
    """
    jobs, losses = Jobs(), Losses()
    async for records in tail.read(topics.cursor, 0, 0):
        for record in records:
            jobs.learn(record)
            losses.learn(record)
    return jobs, losses


async def read_jobs(settings: Settings, tail: Tail) -> Jobs:
    """The jobs on the cursor topic.

    Raises:
        UnavailableError, AccessError.
    """
    jobs, _ = await read_cursor_topic(Topics(settings.topic_prefix), tail)
    return jobs
