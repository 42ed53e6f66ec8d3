"""The state of a delivery: its input partitions, and the messages in flight."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from streams.core.codec import created_at_header, decode, digest_of, traceparent_for
from streams.core.context import TRACEPARENT, about_row
from streams.core.errors import UndecodableError
from streams.core.messages import Row
from streams.core.outcomes import Reject
from streams.core.records import Partition, Record
from streams.delivery.commit_window import CommitWindow, OutputEnds, Slot
from streams.delivery.deduplication import Memory, bytes_identity, recovered_by, row_identity
from streams.delivery.history import History
from streams.delivery.ordered_input import Lost, OrderedInput
from streams.delivery.recovery import Share
from streams.delivery.routes import Route
from streams.observability.step_spans import StepSpan, StepSpans


class Input:
    """One input partition that this worker owns. ``ready``: the work of its former owners is known; before
    that there are no ``window``, ``memory`` and ``ends``.
    """

    intake: OrderedInput
    lost: Lost
    window: CommitWindow
    memory: Memory
    ends: OutputEnds

    def __init__(self) -> None:
        self.ready = False
        self.reached_before: int | None = None  # the time of the row before the committed position
        self.waiting: deque[tuple[Record, Route]] = deque()
        self.history: History | None = None  # if its topic was recreated
        # Messages that wait aside, by offset, and how to have them go on.
        self.aside: dict[int, Callable[[], object]] = {}

    @property
    def position(self) -> int:
        """The next offset that is not finished."""
        if self.ready:
            return self.window.position
        return self.waiting[0][0].offset if self.waiting else self.intake.next

    @property
    def reached(self) -> int | None:
        """The time of the row before the position, microseconds since 1970; None if it is not known."""
        return self.window.reached if self.ready else self.reached_before

    def begin(self, window: CommitWindow, share: Share, history: History | None) -> None:
        """The work of the former owners is known."""
        self.window = window
        self.memory = share.memory
        self.ends = share.ends
        self.history = history
        self.ready = True
        self.intake.skip_to(self.window.position)
        while self.waiting and self.waiting[0][0].offset < self.window.position:
            self.waiting.popleft()


class Work:
    """One message in flight."""

    __slots__ = (
        "asking",
        "generation",
        "handed_over",
        "identity",
        "kind",
        "message",
        "on_aside",
        "on_rest",
        "output",
        "record",
        "resting",
        "route",
        "slot",
        "span",
        "state",
    )

    def __init__(
        self, state: Input, record: Record, route: Route, slot: Slot, generation: int, kind: str
    ) -> None:
        """``kind``: the kind that it counts for in `Places`."""
        self.state = state
        self.record = record
        self.route = route
        self.slot = slot
        self.generation = generation
        self.kind = kind
        self.asking = True  # a step is processing it
        self.resting = False  # the step waits before it tries it again
        self.on_rest: Callable[[Work, bool], None] | None = None
        self.on_aside: Callable[[Work, Callable[[], object] | None], None] | None = None
        self.output: Partition | None = None  # where its result goes, once that is known
        self.handed_over = False  # its output was passed to the sender
        self.message: Row | None = None
        self.span: StepSpan | None = None  # where traces are exported
        self.identity = b""

    def read(self) -> Reject | None:
        """Set message and identity from the record. Returns what is wrong with it, if it cannot be
        decoded."""
        step = self.route.name
        try:
            self.message = decode(self.route.reads, self.record.value)
        except UndecodableError as error:
            self.identity = bytes_identity(step.encode(), self.record.source, digest_of(self.record.value))
            return Reject(error.reason, str(error))
        self.identity = row_identity(
            step,
            self.message.row_id.encode(),
            created_at_header(self.message),
            self.route.version_of(self.message).encode(),
            recovered_by(self.record),
        )
        return None

    def begin_span(self, spans: StepSpans) -> None:
        """Begin the span of the step, now that the message was read."""
        came = self.record.header(TRACEPARENT)
        self.span = spans.begin(self.record, self.route.name, came, self.message)

    @property
    def trace(self) -> bytes | None:
        """The `traceparent` of the message, or its row's own; of its span, if it has one."""
        if self.span is not None:
            return self.span.header
        came = self.record.header(TRACEPARENT)
        return came or (traceparent_for(self.message) if self.message is not None else None)

    def rest(self, resting: bool) -> None:
        """The step waits before it tries the message again, or goes on."""
        if self.on_rest is not None:
            self.on_rest(self, resting)

    def aside(self, call_back: Callable[[], object] | None) -> None:
        """The step waits for what no other message waits for, or goes on."""
        if self.on_aside is not None:
            self.on_aside(self, call_back)

    def about(self) -> dict[str, str]:
        """The row and its trace, for log lines. For an unreadable message its key is used."""
        row_id = self.message.row_id if self.message else (self.record.key or b"").decode("utf-8", "replace")
        about = about_row(row_id, self.trace)
        if self.span is not None and self.span.context is not None:
            about["span_id"] = self.span.context.span_id.hex()
        return about
