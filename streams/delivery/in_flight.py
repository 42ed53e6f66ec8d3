"""The state of a delivery: its input partitions, and the messages in flight."""

from __future__ import annotations

from collections import deque

from streams.core.codec import traceparent_for
from streams.core.context import TRACEPARENT, about_row
from streams.core.messages import Row
from streams.core.records import Record
from streams.delivery.commit_window import Slot, Window
from streams.delivery.deduplication import Floors, Memory
from streams.delivery.ordered_input import OrderedInput
from streams.delivery.routes import Route


class Input:
    """One input partition that this worker owns."""

    intake: OrderedInput

    def __init__(self, window: Window, memory: Memory, floors: Floors) -> None:
        self.window = window
        self.memory = memory
        self.floors = floors
        self.waiting: deque[tuple[Record, Route]] = deque()


class Work:
    """One message in flight."""

    __slots__ = (
        "asking",
        "generation",
        "handed_over",
        "identity",
        "kind",
        "message",
        "record",
        "route",
        "slot",
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
        self.handed_over = False  # its output was passed to the sender
        self.message: Row | None = None
        self.identity = b""

    @property
    def trace(self) -> bytes | None:
        """The `traceparent` of the message, or its row's own."""
        came = self.record.header(TRACEPARENT)
        return came or (traceparent_for(self.message) if self.message is not None else None)

    def about(self) -> dict[str, str]:
        """The row and its trace, for log lines. For an unreadable message its key is used."""
        row_id = self.message.row_id if self.message else (self.record.key or b"").decode("utf-8", "replace")
        return about_row(row_id, self.trace)
