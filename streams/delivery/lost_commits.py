"""How far an input was processed if its commit does not tell: by the newest outputs.

Kafka deletes the commits of a group that was idle for a week, and those of a deleted topic. A tool that
resets commits writes no metadata. Each output names the message that it was made from. No worker processes
two messages at a time that are further apart than the span. So all messages that are further than the span
before the furthest one with an output are finished, and after that those that have an output.

If the topic was deleted and recreated, offsets tell nothing. This is noticed, because the message at the
offset that the newest output names is another one. Then messages below that offset may be copies of messages
of the deleted topic (`history.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

import orjson
import structlog

from streams.core.codec import LABEL_VERSION, PAYLOAD_DIGEST, digest_of
from streams.core.records import Commit, Partition, Record
from streams.delivery.commit_window import Known
from streams.delivery.deduplication import finished_by
from streams.delivery.routes import Flow
from streams.ports.kafka import Tail

log = structlog.get_logger()

_FIRST_CHUNK, _LARGEST_CHUNK = 2_000, 100_000


@dataclass
class Finished:
    """What is finished of an input: all messages before ``position``, and the offsets ``done`` after it.
    ``anew``: messages below this offset may be copies of published ones.
    """

    position: int
    done: set[int] = field(default_factory=set)
    anew: int = 0

    @classmethod
    def of(cls, known: Known, commit: Commit) -> Finished:
        """What a commit tells."""
        return cls(commit.offset, set(known.done), known.anew)

    def cut(self, end: int) -> None:
        """The log ends at ``end``: what will be written there is another message."""
        self.position = min(self.position, end)
        self.done = {offset for offset in self.done if offset < end}

    def add(self, offset: int) -> None:
        """``offset`` is finished as well."""
        if offset >= self.position:
            self.done.add(offset)


class _Newest:
    """The newest outputs that were made from one input."""

    def __init__(self) -> None:
        self.offset = -1  # of the furthest message with an output
        self.output: Record | None = None
        self.offsets: set[int] = set()

    def note(self, offset: int, output: Record) -> None:
        self.offsets.add(offset)
        if offset > self.offset:
            self.offset, self.output = offset, output


async def find_finished(
    tail: Tail,
    flow: Flow,
    inputs: Mapping[Partition, Commit],
    *,
    bounds: Mapping[Partition, tuple[int, int]],
    outputs: Mapping[Partition, int],
    anew: Set[Partition],
    span: int,
) -> dict[Partition, Finished]:
    """What is finished of ``inputs``, all of one partition number. ``bounds``: of the inputs and outputs.
    ``outputs``: those of the number, each with the offset before which to search. ``anew``: the inputs whose
    topic is known to be recreated.

    Raises:
        UnavailableError, AccessError: Kafka does not answer.
    """
    newest = {one: _Newest() for one in inputs}
    for place, end in outputs.items():
        await _look_back(tail, flow, place, bounds[place][0], end, newest, span)
    found: dict[Partition, Finished] = {}
    for one, commit in inputs.items():
        first, end = bounds[one]
        position = 0 if one in anew else max(commit.offset, 0)
        before = newest[one]
        if before.output is None or before.offset < first:
            found[one] = Finished(position)  # no existing message has an output
        elif one not in anew and before.offset < end and await _made_from(tail, one, before, bounds[one]):
            position = max(position, before.offset - span + 1)
            found[one] = Finished(position, {offset for offset in before.offsets if offset >= position})
        else:
            found[one] = Finished(position, anew=before.offset + 1)
        log.info(
            "position_from_outputs",
            partition=one,
            committed=commit.offset,
            position=found[one].position,
            done=len(found[one].done),
            anew=found[one].anew,
        )
    return found


async def _look_back(
    tail: Tail,
    flow: Flow,
    place: Partition,
    first: int,
    end: int,
    newest: Mapping[Partition, _Newest],
    span: int,
) -> None:
    """Read an output backwards, until no older message can matter."""
    lowest: dict[Partition, int] = {}
    size = _FIRST_CHUNK
    while first < end and any(
        one not in lowest or lowest[one] > before.offset - 2 * span for one, before in newest.items()
    ):
        start = max(first, end - size)
        async for records in tail.read_many({place: start}, {place: (first, end)}):
            for record in records:
                source = finished_by(record)
                if source is not None and source[0] in newest and _counts(flow, record, source[0]):
                    one, offset = source
                    newest[one].note(offset, record)
                    lowest[one] = min(offset, lowest.get(one, offset))
        for before in newest.values():
            before.offsets = {offset for offset in before.offsets if offset > before.offset - span}
        end, size = start, min(2 * size, _LARGEST_CHUNK)


def _counts(flow: Flow, output: Record, source: Partition) -> bool:
    """Whether the output finishes its message. A live row that has a label of another version still needs one
    of the worker's version.
    """
    if source.topic in flow.replays:
        return True
    version = flow.route(Record(*source, 0, 0, None, None)).version
    return version is None or output.header(LABEL_VERSION) in (None, version.encode())


async def _made_from(tail: Tail, one: Partition, before: _Newest, bounds: tuple[int, int]) -> bool:
    """Whether the output was made from the message that has its source's offset now."""
    assert before.output is not None
    async for records in tail.read_many({one: before.offset}, {one: (bounds[0], before.offset + 1)}):
        for record in records:
            if record.offset == before.offset:
                return _has(before.output, record)
    return False


def _has(output: Record, message: Record) -> bool:
    """Whether ``output`` was made from ``message``: an output has all fields of its message."""
    digest = output.header(PAYLOAD_DIGEST)
    if digest is not None:  # a dead letter
        return digest == digest_of(message.value)
    try:
        made, read = orjson.loads(output.value or b""), orjson.loads(message.value or b"")
    except orjson.JSONDecodeError:
        return False
    if not isinstance(made, dict) or not isinstance(read, dict):
        return False
    return "row_id" in made and all(made[name] == value for name, value in read.items() if name in made)
