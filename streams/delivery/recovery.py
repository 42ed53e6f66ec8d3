"""Taking over partitions: what their former owners have published is read from the outputs.

The outputs tell three things. First, which messages are finished, by the offset that each output was made
from: usually by the few outputs that were written since the last commit; if a commit tells nothing, by the
newest ones (`lost_commits.py`). Second, which rows were published, by identity, in case one comes again at
another offset. Third, answers of the model, from further back: the model is not asked again about a text
whose answer was published by any worker.

Each partition number is taken over separately. If an output has no leader, or a replica does not have its
last messages yet, only that number waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Set
from dataclasses import dataclass, field
from itertools import chain

import structlog

from streams.core.errors import RetryableError
from streams.core.records import Commit, Partition, Record
from streams.delivery.commit_window import OutputEnds, known_from
from streams.delivery.deduplication import Memory, finished_by
from streams.delivery.lost_commits import Finished, find_finished
from streams.delivery.routes import Flow
from streams.ports.kafka import Tail

log = structlog.get_logger()

_AGAIN_SECONDS = 1.0
_AT_ONCE = 2

Bounds = Mapping[Partition, tuple[int, int]]


@dataclass(frozen=True)
class Share:
    """What the inputs of one partition number share. ``tail``: the offset of each output from which on its
    messages are in ``memory``.
    """

    ends: OutputEnds
    tail: Mapping[Partition, int]
    memory: Memory = field(default_factory=Memory)


# Called with an input, what is finished of it, its number's share, and its first and its next offset.
Ready = Callable[[Partition, Finished, Share, tuple[int, int]], Awaitable[None]]


class Recall:
    """Passes the newest messages of the outputs to the flow, each once, for their answers."""

    def __init__(self, flow: Flow, most: int) -> None:
        """``most``: messages of all owned partitions of an output."""
        self._take = flow.recall
        self._outputs = flow.outputs
        self._most = most
        self._seen: dict[tuple[Partition, str], int] = {}  # with the incarnation -> up to which offset

    def begins(self, bounds: Bounds, ids: Mapping[str, str], numbers: int) -> dict[Partition, int]:
        """The offset of each output from which on to `take` its messages. ``numbers``: how many partitions of
        each output are owned.
        """
        if self._take is None:
            return {}
        return {
            where: max(0, end - self._most // numbers, self._seen.get((where, ids[where.topic]), 0))
            for where, (_, end) in bounds.items()
            if where.topic in self._outputs
        }

    def take(self, record: Record) -> None:
        """Keep the answer in a message."""
        assert self._take is not None
        self._take(record)

    def taken(self, bounds: Bounds, ids: Mapping[str, str]) -> None:
        """Everything up to the ends in ``bounds`` has been read."""
        self._seen |= {(where, ids[where.topic]): end for where, (_, end) in bounds.items()}


class Takeover:
    """Reads the outputs for one assignment."""

    def __init__(
        self,
        flow: Flow,
        tail: Tail,
        recall: Recall,
        committed: Mapping[Partition, Commit],
        *,
        ids: Mapping[str, str],
        anew: Set[Partition],
        span: int,
        sleep: Callable[[float], Awaitable[None]],
        ready: Ready,
    ) -> None:
        """``ids``: the topics' incarnations. ``anew``: inputs whose topic was recreated since their last
        commit. ``span``: see `Limits`. ``ready`` is called for each input as soon as everything is known of
        it.
        """
        self._flow = flow
        self._tail = tail
        self._recall = recall
        self._committed = committed
        self._ids = ids
        self._anew = anew
        self._span = span
        self._sleep = sleep
        self._ready = ready
        known = {one: known_from(commit, one.topic, ids) for one, commit in committed.items()}
        self._known = {one: found for one, found in known.items() if found is not None}
        self._finished = {one: Finished.of(found, committed[one]) for one, found in self._known.items()}
        self._missing = set(committed)
        self._numbers = {partition.partition for partition in committed}
        self._shares: dict[int, Share] = {}
        self._bounds: dict[Partition, tuple[int, int]] = {}  # of inputs and outputs
        self._looking = asyncio.Semaphore(_AT_ONCE)

    async def run(self) -> None:
        """Read what the former owners have published. Returns when all inputs are ready.

        Raises:
            AccessError, ConfigurationError: a person must change something.
        """
        while self._missing:
            try:
                async with asyncio.TaskGroup() as telling:
                    for number in self._shares:
                        telling.create_task(self._tell(number))
                    async for bounds in self._readable():
                        async for number in self._read(bounds):
                            telling.create_task(self._tell(number))
            except ExceptionGroup as errors:
                error = next((e for e in errors.exceptions if not isinstance(e, RetryableError)), None)
                if error is not None:
                    raise error from errors
                log.warning(
                    "takeover_retried", partitions=len(self._missing), reason=str(errors.exceptions[0])
                )
                await self._sleep(_AGAIN_SECONDS)

    def _inputs(self, number: int) -> list[Partition]:
        return [one for one in self._missing if one.partition == number]

    def _outputs(self, number: int) -> list[Partition]:
        return [Partition(topic, number) for topic in (*self._flow.outputs, self._flow.dead_letter)]

    async def _readable(self) -> AsyncIterator[Bounds]:
        """The bounds of the outputs, one partition number after the other, each when all its bounds are
        known."""
        left = self._numbers - self._shares.keys()
        outputs = {number: self._outputs(number) for number in left}
        inputs = {number: self._inputs(number) for number in left}
        found: dict[Partition, tuple[int, int]] = {}
        async for some in self._tail.written(chain(*outputs.values()), chain(*inputs.values())):
            found |= some
            whole = {n for n in left if all(one in found for one in (*outputs[n], *inputs[n]))}
            left -= whole
            self._bounds |= {one: found[one] for n in whole for one in (*inputs[n], *outputs[n])}
            if whole:
                yield {one: found[one] for number in whole for one in outputs[number]}

    async def _read(self, bounds: Bounds) -> AsyncIterator[int]:
        """Read the ends of the outputs. Yields each partition number when its outputs have been read."""
        starts = {place: self._start(place, *bounds[place]) for place in bounds}
        answers = self._recall.begins(bounds, self._ids, len(self._numbers))
        left: dict[int, set[Partition]] = {}
        for place in bounds:
            left.setdefault(place.partition, set()).add(place)
        shares = {
            number: Share(
                OutputEnds({place.topic: bounds[place][1] for place in places}),
                {place: starts[place] for place in places},
            )
            for number, places in left.items()
        }

        def whole() -> list[int]:
            numbers = [number for number, places in left.items() if not places]
            for number in numbers:
                del left[number]
                self._shares[number] = shares[number]
            return numbers

        begins = {place: min(start, answers.get(place, start)) for place, start in starts.items()}
        async for records in self._tail.read_many(
            begins, bounds, lambda place: left[place.partition].discard(place)
        ):
            for number in whole():
                yield number
            for record in records:
                place = Partition(record.topic, record.partition)
                if record.offset >= starts[place]:
                    shares[place.partition].memory.learn(record)
                    source = finished_by(record)
                    if source is not None and source[0] in self._finished:
                        self._finished[source[0]].add(source[1])
                if record.offset >= answers.get(place, record.offset + 1):
                    self._recall.take(record)
        self._recall.taken(bounds, self._ids)
        for number in whole():
            yield number

    def _start(self, place: Partition, first: int, end: int) -> int:
        """From which offset on an output may have messages that no commit counts."""
        known = [found for one, found in self._known.items() if one.partition == place.partition]
        start = min((found.outputs.get(place.topic, 0) for found in known), default=end)
        # Past the end: the topic has lost messages, so it is read whole.
        return first if start > end else max(start, first)

    async def _tell(self, number: int) -> None:
        """Call ``ready`` for the inputs of one number. Those whose commit tells nothing come last, because
        the outputs have to be searched for them.
        """
        share, rest = self._shares[number], []
        for one in self._inputs(number):
            if one in self._finished:
                await self._told(one, self._finished[one], share)
            else:
                rest.append(one)
        if rest:
            async with self._looking:
                found = await find_finished(
                    self._tail,
                    self._flow,
                    {one: self._committed[one] for one in rest},
                    bounds=self._bounds,
                    outputs=share.tail,
                    anew=self._anew,
                    span=self._span,
                )
            for one in rest:
                await self._told(one, found[one], share)

    async def _told(self, one: Partition, finished: Finished, share: Share) -> None:
        await self._ready(one, finished, share, self._bounds[one])
        self._missing.discard(one)
