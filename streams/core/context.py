"""One trace id a source row, in log lines and as a W3C `traceparent` header on every topic.

It is made of the row's identity and so needs no memory: a row that is retried, replayed or read again after a
crash has the trace that it had. Nothing rests on it: what was done is known by identity, not by trace.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from contextvars import ContextVar
from hashlib import sha256
from typing import Any, Protocol

TRACEPARENT = "traceparent"


class AtWork(Protocol):
    """What a task works on, for its log lines."""

    def about(self) -> dict[str, str]:
        """`row_id` and `trace_id`, as far as they are known."""


# Set in the task that works on a message; the calls that it makes inherit it. Setting it is all that a
# message costs: it is asked only when a line is written.
AT_WORK: ContextVar[AtWork | None] = ContextVar("AT_WORK", default=None)

# Whether that message is a replay: where the two meet, live work goes first. Inherited in the same way.
REPLAY: ContextVar[bool] = ContextVar("REPLAY", default=False)


def traceparent_of(row_id: str, created_at: bytes) -> bytes:
    """The `traceparent` of a row: `00-<trace id>-<parent id>-00`.

    The flags say that nobody recorded a span: labelstream writes log lines. ``created_at`` as in the header:
    source tables begin ids anew.
    """
    digest = sha256(row_id.encode("utf-8", "surrogatepass") + b"\x00" + created_at).hexdigest()
    return f"00-{digest[:32]}-{digest[32:48]}-00".encode()


def trace_id_in(traceparent: bytes | None) -> str:
    """The trace id in a `traceparent` header; empty where it is none."""
    parts = (traceparent or b"").decode("ascii", "replace").split("-")
    return parts[1] if len(parts) >= 4 and len(parts[1]) == 32 else ""


def about_row(row_id: str, traceparent: bytes | None) -> dict[str, str]:
    """What a log line that concerns a row says of it."""
    found = {"row_id": row_id, "trace_id": trace_id_in(traceparent)}
    return {name: value for name, value in found.items() if value}


def of_no_row(say: Callable[..., Any], *words: Any, **fields: Any) -> None:
    """Log a line that is about no row, though it is written in a row's task."""
    contextvars.Context().run(say, *words, **fields)
