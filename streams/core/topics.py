"""The topics: their names, their purpose, and how a row's partition is chosen."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256

from streams.core.text import is_plain

# The largest message; the brokers' default for a topic.
MESSAGE_BYTES = 1_000_000
# The largest value of a message: its headers and framing need the rest.
VALUE_BYTES = 990_000


@dataclass(frozen=True)
class Topic:
    """A topic: its full name, its purpose, and whether it is compacted or has a retention time."""

    name: str
    purpose: str
    compacted: bool = False
    partitions: int | None = None  # None: TOPIC_PARTITIONS, the same for all of them


@dataclass(frozen=True)
class ConsumerGroup:
    """A consumer group: its name, and which topics each of its steps reads."""

    name: str
    steps: Mapping[str, tuple[str, ...]]

    @property
    def topics(self) -> tuple[str, ...]:
        """All topics that the group reads."""
        return tuple(self.step_of)

    @property
    def step_of(self) -> dict[str, str]:
        """The step that works on each topic."""
        return {topic: step for step, topics in self.steps.items() for topic in topics}


@dataclass(frozen=True)
class ConsumerGroups:
    """Who reads which topic. Poller, replay, canary, fetcher and trainer join to have one active member: they
    own a partition of the cursor topic, and read it outside the group."""

    poller: ConsumerGroup
    agents: ConsumerGroup
    sink: ConsumerGroup
    replay: ConsumerGroup
    canary: ConsumerGroup
    fetcher: ConsumerGroup
    trainer: ConsumerGroup

    @property
    def pipeline(self) -> tuple[ConsumerGroup, ...]:
        """Those that every row passes."""
        return (self.poller, self.agents, self.sink)

    def readers_of(self, topics: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """The names of the groups that read each of ``topics``."""
        return {
            topic: tuple(group.name for group in self.pipeline if topic in group.topics) for topic in topics
        }


@dataclass(frozen=True)
class Topics:
    """All topics under one prefix (``TOPIC_PREFIX``)."""

    prefix: str = "esk"

    @property
    def rows(self) -> str:
        return f"{self.prefix}.rows"

    @property
    def replay(self) -> str:
        return f"{self.prefix}.replay"

    @property
    def labeled(self) -> str:
        return f"{self.prefix}.labeled"

    @property
    def shadow(self) -> str:
        return f"{self.prefix}.labeled.shadow"

    @property
    def augmented(self) -> str:
        return f"{self.prefix}.augmented"

    @property
    def dead_letter(self) -> str:
        return f"{self.prefix}.dead-letter"

    @property
    def cursor(self) -> str:
        return f"{self.prefix}.cursor"

    @property
    def versions(self) -> str:
        return f"{self.prefix}.versions"

    @property
    def review(self) -> str:
        return f"{self.prefix}.review"

    @property
    def groups(self) -> ConsumerGroups:
        """The consumer groups, and what each reads."""

        def group(role: str, **steps: tuple[str, ...]) -> ConsumerGroup:
            return ConsumerGroup(f"{self.prefix}-{role}", steps)

        return ConsumerGroups(
            poller=group("poller", poll=(self.cursor,)),
            agents=group("agents", label=(self.rows, self.replay), augment=(self.labeled,)),
            sink=group("sink", store=(self.labeled, self.shadow, self.augmented, self.dead_letter)),
            replay=group("replay", replay=(self.cursor,)),
            canary=group("canary", canary=(self.cursor,)),
            fetcher=group("fetcher", fetch=(self.cursor,)),
            trainer=group("trainer", train=(self.cursor,)),
        )

    def all(self) -> tuple[Topic, ...]:
        """Every topic. A step reads a partition and writes to the partition with the same number downstream,
        so the partition counts of the first six are equal and never change.
        """
        return (
            Topic(self.rows, "rows as the poller read them"),
            Topic(self.replay, "rows to be labelled again, worked when live rows leave room"),
            Topic(self.labeled, "labelled rows"),
            Topic(self.shadow, "labels of a version that is being tried"),
            Topic(self.augmented, "labelled rows with their variants"),
            Topic(self.dead_letter, "what could not be processed, with its bytes"),
            Topic(self.cursor, "how far the poller has read", compacted=True, partitions=1),
            Topic(
                self.versions,
                "the label versions' prompts, taxonomies and models",
                compacted=True,
                partitions=1,
            ),
            Topic(self.review, "who reviews which row, and what was decided", compacted=True, partitions=1),
        )


_SPACE = re.compile(r"\s+")


def normalise(text: str) -> str:
    """``text`` in the form in which equal queries are equal: NFKC, case folded, white space as single
    blanks.
    """
    if is_plain(text):
        return text.casefold()
    return _SPACE.sub(" ", unicodedata.normalize("NFKC", text)).strip().casefold()


def partition_of(text: str, partitions: int) -> int:
    """The partition for ``text``: equal texts are in one partition, so that one worker gets them all and asks
    the model once.
    """
    digest = sha256(normalise(text).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") % partitions
