"""What the parts need of Kafka, as protocols, so that no connector imports another one.

`connectors/kafka` implements them; the roles pass them to the poller, the agents and the sink.
"""

from __future__ import annotations

from asyncio import Task
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol
from uuid import UUID

from streams.core.records import Commit, Outage, Outgoing, Partition, Record, Run


class Lease(Protocol):
    """The right to write for the partitions that the group assigned.

    It is valid while the last accepted heartbeat is younger than 0.6 of the session, and the generation is
    the one that the writer expects.
    """

    @property
    def generation(self) -> int:
        """The group's generation; -1 while this process is not a member."""

    def held(self) -> bool:
        """Whether a write may be sent now."""

    async def hold(self, generation: int) -> None:
        """Wait until a write may be sent.

        Raises:
            LeaseLostError: the generation is no longer ``generation``: another process may own the
                partitions.
        """


class Sender(Protocol):
    """The idempotent, non-transactional producer; every request to the broker checks the lease.

    A partition that cannot be written (it has no leader, or too few replicas) delays only what is sent to it;
    that waits for as long as it takes.
    """

    @property
    def outages(self) -> Mapping[Partition, Outage]:
        """The partitions that cannot be written now."""

    async def send(self, message: Outgoing) -> int:
        """Send, wait for the broker's confirmation, return the offset.

        Raises:
            RefusedError: too large for the topic (reason `too-large`), or never acceptable.
            LeaseLostError: the lease was lost before it was sent; it was not and will not be written.
            AccessError: no right to write.
        """

    async def send_many(self, messages: Sequence[Outgoing]) -> list[int]:
        """Send in few, large batches, wait for all confirmations, return the offsets in order.

        Messages of one partition keep their order. Raises as ``send``; then any part of them may be written.
        """


class BulkSender(Sender, Protocol):
    """A sender whose confirmations can be awaited later."""

    async def hand_over(self, runs: Sequence[Run]) -> Sequence[Task[list[tuple[int, int]]]]:
        """As ``send_many``, but returns when the last message of each run is in a batch, or its partition
        cannot be written now.

        The task of each run waits for the confirmations; its result is where the run's batches begin and how
        many messages they have. It raises as ``send_many``, once the run is settled.
        """


class Tail(Protocol):
    """Reads partitions outside of any consumer group.

    Messages that some in-sync replica does not have yet are written, but not visible to subscribers; they
    appear later. Use `written` for the ends to know everything that another process has written.
    """

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """The first existing offset, and the one after the last that subscribers can see."""

    async def bounds_many(self, partitions: Sequence[Partition]) -> dict[Partition, tuple[int, int]]:
        """The same for several at once."""

    async def firsts(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """The first offset of each that retention has left."""

    def written(
        self, partitions: Iterable[Partition], others: Iterable[Partition] = ()
    ) -> AsyncIterator[dict[Partition, tuple[int, int]]]:
        """The first existing offset, and the one after the last that was written, for each of ``partitions``:
        one after the other, each as soon as all of it can be read. Waits for as long as that takes.
        For ``others`` the second value is the offset after the last that subscribers can see. It never
        decreases, except if the log lost its end.

        Raises:
            AccessError, ConfigurationError: a person must change something.
        """

    async def written_many(self, partitions: Iterable[Partition]) -> dict[Partition, tuple[int, int]]:
        """The same for all at once.

        Raises:
            UnavailableError: some cannot be read to their end within the time that a slow replica is given.
            AccessError, ConfigurationError.
        """

    async def offsets_at(self, partitions: Sequence[Partition], millis: int) -> dict[Partition, int]:
        """For each the first offset of that time (Kafka's, in milliseconds since 1970) or later; if there is
        none, the one after the last.
        """

    def read(self, topic: str, partition: int, start: int) -> AsyncIterator[list[Record]]:
        """Everything from ``start`` (or from what retention left) to the end that subscribers see now, in
        lists.
        """

    def read_many(
        self,
        starts: Mapping[Partition, int],
        bounds: Mapping[Partition, tuple[int, int]] | None = None,
        reached: Callable[[Partition], None] = lambda partition: None,
    ) -> AsyncIterator[list[Record]]:
        """Several at once, each from its start. A start after the end means that the topic was recreated
        since: then it is read whole. ``bounds``: where to stop; by default at the ends that subscribers see
        now. ``reached`` is called for each partition that has been read to its end.
        """


class InFlight(Protocol):
    """The messages between the poller and the tables."""

    def of(self, partitions: Collection[int]) -> AsyncIterator[Record]:
        """Those of some partitions that their readers have not committed: rows and replays first, then
        labels, then what waits to be stored, as rows move on.

        Raises:
            UnavailableError: a reader is behind what retention has left, and may hold some; or Kafka does
                not answer.
        """

    async def committed(self, group: str, topic: str) -> dict[int, int]:
        """The offset up to which ``group`` has read each partition of a topic; -1 for none.

        Raises:
            UnavailableError, AccessError.
        """


class GroupInput(Protocol):
    """A consumer group's view of its partitions, for the sink."""

    async def fetch(self, *, seconds: float, most: int) -> list[Record]:
        """Records of the assigned partitions, at most ``most``; waits at most ``seconds`` for the
        first one.
        """

    async def commit(self, positions: Mapping[Partition, Commit]) -> None:
        """Commit. Raises LeaseLostError if the group has moved on."""

    def seek(self, positions: Mapping[Partition, int]) -> None:
        """Continue at these offsets; one that retention has removed means the first that is left."""


class TopicIds(Protocol):
    """Distinguishes a topic from a former one of the same name."""

    async def topic_id(self, topic: str) -> UUID:
        """The id of this incarnation of the topic.

        Raises:
            UnavailableError: there is no such topic.
        """

    async def topic_ids(self, topics: Sequence[str]) -> dict[str, UUID]:
        """The same for several at once."""


class WaitsFor(NamedTuple):
    """A group that is so far behind in a topic that writing to it pauses. ``unread``: messages. ``why``: too
    many wait (`messages`), or the oldest has used up its share of the retention (`age`).
    """

    topic: str
    group: str
    unread: int
    why: Literal["messages", "age"]


class Headroom(Protocol):
    """How much may be written to some topics before retention removes messages that their readers have not
    read.
    """

    looks: int  # how often the readers' positions were read

    @property
    def waits(self) -> list[WaitsFor]:
        """The groups that are waited for now, or were a moment ago."""

    async def refresh(self, *, now: bool = False, pending: int = 0) -> None:
        """Read the readers' positions if the last ones are old; ``now``: unless they are very recent. While
        Kafka is down the last ones stay valid. ``pending``: messages that were sent and may not be visible
        yet.
        """

    def left(self) -> int:
        """The number of messages that may be written, to any partition; 0: wait."""

    def full(self, partition: Partition) -> bool:
        """Whether nothing should be written to this partition now."""

    def wrote(self, count: int) -> None:
        """So many were written since `refresh`."""
