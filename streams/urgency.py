"""Whether the work at hand is a replay: where the two meet, live work goes first."""

from __future__ import annotations

from collections.abc import Set
from contextvars import ContextVar

from streams.codec import REPLAY_JOB
from streams.ports import Record

# Set in the task that works on a message; the calls that it makes inherit it.
REPLAY: ContextVar[bool] = ContextVar("REPLAY", default=False)


def is_replay(record: Record, replays: Set[str]) -> bool:
    """Whether a message is no live one. ``replays``: the topics that hold only such; elsewhere its header
    tells."""
    return record.topic in replays or record.header(REPLAY_JOB) is not None
