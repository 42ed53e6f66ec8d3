"""What a delivery is told about the pipeline: its topics, and for each message what to do with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from streams.core.messages import Labeled, Row
from streams.core.outcomes import Step
from streams.core.records import Record


@dataclass(frozen=True)
class Route:
    """One message's way: how it is read, which step works on it, and where the result goes.

    ``version``: the label version of the result; None where the message names it itself.
    """

    reads: type[Row]
    makes: type[Labeled]
    step: Step[Any, Any]
    output: str
    version: str | None = None

    @property
    def name(self) -> str:
        """The step's name."""
        return self.makes.made_by

    def version_of(self, message: Row) -> str:
        """The label version under which the result will stand."""
        if self.version is not None:
            return self.version
        return message.label_version if isinstance(message, Labeled) else ""


def _never(_: Record) -> bool:
    return False


@dataclass(frozen=True)
class Flow:
    """Topics read, most urgent first, topics written, and the way of each message.

    ``replays``: those of the inputs whose work goes after live work where the two meet. ``recall`` is
    given the newest messages of the outputs at each assignment, so that their answers need not be asked
    for again. ``unwanted``: whether nobody wants a message's result any more; then it is passed over.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dead_letter: str
    route: Callable[[Record], Route]
    replays: frozenset[str] = frozenset()
    recall: Callable[[Record], None] | None = None
    unwanted: Callable[[Record], bool] = _never


@dataclass(frozen=True)
class Limits:
    """How much one worker takes on.

    ``in_flight``: messages with a step; as many again of replays, which wait for the model behind
    live ones and must not keep them out of here. ``span``: most offsets between the oldest and the newest
    message in flight of a partition, which bounds what a next owner has to read. ``queue``: messages of
    a partition that may wait here before the consumer is told to hold it back; at least as many as may be in
    flight. ``attempts``: suspect
    failures before a message is given up. ``longest_pause``: seconds between two attempts.
    ``recalled``: messages of each output that are read at an assignment for their answers.
    """

    in_flight: Mapping[str, int] = field(default_factory=dict)
    span: int = 1000
    queue: int = 64
    attempts: int = 5
    longest_pause: float = 5.0
    recalled: int = 30_000
