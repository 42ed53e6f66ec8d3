"""Whether the work at hand is a replay: where the two meet, live work goes first."""

from __future__ import annotations

from contextvars import ContextVar

# Set in the task that works on a message; the calls that it makes inherit it.
REPLAY: ContextVar[bool] = ContextVar("REPLAY", default=False)
