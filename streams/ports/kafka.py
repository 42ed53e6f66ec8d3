"""What the parts ask of Kafka, as protocols, so that no connector imports another.

`connectors/kafka` implements them; the roles hand them to the poller, the agents and the sink.
"""

from __future__ import annotations

from asyncio import Task
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol
from uuid import UUID

from streams.core.records import Commit, Outgoing, Partition, Record, Run


class Lease(Protocol):
    """The right to write for the partitions that the group gave us.

    It holds while the last heartbeat that was believed is younger than 0.6 of the session and the
    generation is the one it was asked for.
    """

    @property
    def generation(self) -> int:
        """The group's generation; -1 while this process is not a member."""

    def held(self) -> bool:
        """Whether a write may go out now."""

    async def hold(self, generation: int) -> None:
        """Wait until a write may go out.

        Raises:
            LeaseLostError: the generation is no longer ``generation``: another may own the partitions.
        """


class Sender(Protocol):
    """The idempotent, non-transactional producer; every request to the broker passes the lease."""

    async def send(self, message: Outgoing) -> int:
        """Send, wait for the broker's confirmation, return the offset.

        Raises:
            RefusedError: too large for the topic (reason `too-large`), or never acceptable.
            LeaseLostError: the lease was lost before it went out; it was not and will not be written.
            AccessError: no right to write.
        """

    async def send_many(self, messages: Sequence[Outgoing]) -> list[int]:
        """Send in few, large batches, wait for all confirmations, return the offsets in order.

        Messages of one partition keep their order. Raises as ``send``; then any part may be written.
        """


class BulkSender(Sender, Protocol):
    """One that need not be waited for."""

    async def hand_over(self, runs: Sequence[Run]) -> Task[list[list[tuple[int, int]]]]:
        """As ``send_many``, but returns when the last message is in a batch.

        The task waits for the confirmations, and gives for each run where its batches begin and how many
        messages they have. This raises as ``send_many``, once all that was handed over is settled; so does
        the task.
        """


class Tail(Protocol):
    """Reads partitions outside any consumer group.

    What subscribers can see may lack messages that were written: those that some in-sync replica has not yet.
    They appear later. Whoever must know all that another has written asks `written` for the ends.
    """

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """The first offset that is there, and the one after the last that subscribers can see."""

    async def bounds_many(self, partitions: Sequence[Partition]) -> dict[Partition, tuple[int, int]]:
        """The same for several at once."""

    async def firsts(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """The first offset of each that retention has left."""

    def written(self, partitions: Iterable[Partition]) -> AsyncIterator[dict[Partition, tuple[int, int]]]:
        """The first offset that is there, and the one after the last that was written, for each of
        ``partitions``: in turn, each as soon as all of it can be read. Waits for as long as that takes.

        Raises:
            AccessError, ConfigurationError: a person must change something.
        """

    async def written_many(self, partitions: Iterable[Partition]) -> dict[Partition, tuple[int, int]]:
        """The same for all at once.

        Raises:
            UnavailableError: some cannot be read to their end for longer than a slow replica is waited for.
            AccessError, ConfigurationError.
        """

    def read(self, topic: str, partition: int, start: int) -> AsyncIterator[list[Record]]:
        """Everything from ``start`` (or what retention left of it) to the end that subscribers see now, in
        lists."""

    def read_many(
        self,
        starts: Mapping[Partition, int],
        bounds: Mapping[Partition, tuple[int, int]] | None = None,
        reached: Callable[[Partition], None] = lambda partition: None,
    ) -> AsyncIterator[list[Record]]:
        """Several at once, each from its start. A start past the end means that the topic was made anew
        since: then it is read whole. ``bounds``: to where; by default to the ends that subscribers see now.
        ``reached`` is told each partition that has been read to its end."""


class GroupInput(Protocol):
    """A consumer group's view of its partitions, for the sink."""

    async def fetch(self, *, seconds: float, most: int) -> list[Record]:
        """Records of the assigned partitions, at most ``most``; waits at most ``seconds`` for the first."""

    async def commit(self, positions: Mapping[Partition, Commit]) -> None:
        """Commit. Raises LeaseLostError if the group has moved on."""

    def seek(self, positions: Mapping[Partition, int]) -> None:
        """Fetch on from these offsets; one that retention has taken means the first that is left."""


class TopicIds(Protocol):
    """Tells one incarnation of a topic from the next of the same name."""

    async def topic_id(self, topic: str) -> UUID:
        """The id that the brokers gave this incarnation.

        Raises:
            UnavailableError: there is no such topic.
        """

    async def topic_ids(self, topics: Sequence[str]) -> dict[str, UUID]:
        """The same for several at once."""


class WaitsFor(NamedTuple):
    """A group that is so far behind in a topic that no more is written to it. ``unread``: messages.
    ``why``: too many wait (`messages`), or the oldest has used up its share of the retention (`age`)."""

    topic: str
    group: str
    unread: int
    why: Literal["messages", "age"]


class Headroom(Protocol):
    """How much may be written to some topics before retention takes messages that their readers have not
    read."""

    looks: int  # how often it was seen where the readers are

    @property
    def waits(self) -> list[WaitsFor]:
        """What is waited for now, and was a moment ago."""

    async def refresh(self, *, now: bool = False, pending: int = 0) -> None:
        """Look where the readers are, if the last look is old; ``now``: if it is not quite new. While Kafka
        is away what was seen last stands. ``pending``: messages that were handed over and may not be there
        yet."""

    def left(self) -> int:
        """So many messages may be written, whatever partition they go to; 0: wait."""

    def full(self, partition: Partition) -> bool:
        """Whether nothing should be written to this partition now."""

    def wrote(self, count: int) -> None:
        """So many were written since `refresh`."""
