"""The delivery's description of the pipeline: its topics, and what to do with each message."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from streams.core.messages import Labeled, Row
from streams.core.outcomes import Step
from streams.core.records import Record


@dataclass(frozen=True)
class Route:
    """How a message is processed: how it is read, which step processes it, and where the result goes.

    ``version``: the label version of the result; None if the message names it.
    """

    reads: type[Row]
    makes: type[Labeled]
    step: Step[Any, Any]
    output: str
    version: str | None = None

    @cached_property
    def name(self) -> str:
        """The step's name."""
        return self.makes.made_by

    def version_of(self, message: Row) -> str:
        """The label version of the result."""
        if self.version is not None:
            return self.version
        return message.label_version if isinstance(message, Labeled) else ""


def _never(_: object) -> bool:
    return False


@dataclass(frozen=True)
class Flow:
    """Topics read, most urgent first, topics written, and the route of each message.

    ``replays``: the inputs whose messages have lower priority than live ones. ``recall`` is called with the
    newest messages of the outputs at each assignment, so that their answers are not requested again.
    ``unwanted``, ``erased``: whether the result of a message, or of its row, is no longer wanted; then it is
    skipped.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dead_letter: str
    route: Callable[[Record], Route]
    replays: frozenset[str] = frozenset()
    recall: Callable[[Record], None] | None = None
    unwanted: Callable[[Record], bool] = _never
    erased: Callable[[Row], bool] = _never

    def skips(self, record: Record, row: Row | None) -> bool:
        """Whether nobody wants the result of ``record``. ``row``: what is in it, if it can be read."""
        return self.unwanted(record) or (row is not None and self.erased(row))


@dataclass(frozen=True)
class Limits:
    """Limits of one worker.

    ``in_flight``: messages in a step; the same number of replays is added, which wait for the model behind
    live ones and must not keep these out. ``span``: largest distance between the offsets of the oldest and
    the newest message in flight of a partition, which bounds what a next owner has to read. ``queue``:
    waiting messages of a partition, after which the consumer pauses it; at least as many as may be in flight.
    ``attempts``: suspect failures before a message is rejected. ``longest_pause``: seconds between two
    attempts. ``recalled``: messages of each output that are read at an assignment for their answers.
    """

    in_flight: Mapping[str, int] = field(default_factory=dict)
    span: int = 1000
    queue: int = 64
    attempts: int = 5
    longest_pause: float = 5.0
    recalled: int = 30_000
