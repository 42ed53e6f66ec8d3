"""One trace id for each source row, in log lines and as a W3C `traceparent` header on every topic.

It is derived from the row's identity and needs no memory: a row that is retried, replayed or read again after
a crash has the same trace id. Where traces are exported, a retry and a replay have one of their own
(`streams/ports/spans.py`). Nothing depends on it: rows are recognised by identity, not by trace.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Callable, Coroutine, Iterator
from contextvars import ContextVar
from hashlib import sha256
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

TRACEPARENT = "traceparent"


class AtWork(Protocol):
    """The message that a task processes, for its log lines."""

    def about(self) -> dict[str, str]:
        """`row_id` and `trace_id`, as far as they are known."""

    def rest(self, resting: bool) -> None:
        """The step waits, and others may be started in its place; or it goes on."""

    def aside(self, call_back: Callable[[], object] | None) -> None:
        """The step waits for something that no other message waits for, and any number may be started
        meanwhile. ``call_back`` is called if it is to go on at once. None: it goes on.
        """


# Set in the task that processes a message; its calls inherit it. A message costs only this assignment: the
# value is read when a line is logged.
AT_WORK: ContextVar[AtWork | None] = ContextVar("AT_WORK", default=None)

# Whether that message is a replay: live work goes first where both use the same resource. Inherited in the
# same way.
REPLAY: ContextVar[bool] = ContextVar("REPLAY", default=False)


@contextlib.contextmanager
def resting() -> Iterator[None]:
    """The message that is being processed waits before it is tried again, and holds nobody up meanwhile."""
    work = AT_WORK.get()
    if work is None:
        yield
        return
    work.rest(True)
    try:
        yield
    finally:
        work.rest(False)


async def aside(work: Coroutine[Any, Any, T], seconds: float) -> T | None:
    """The result of ``work``, for which the message that is being processed makes room for others; None if
    it takes longer than ``seconds``, or the message begins to hold up others.

    Raises:
        what ``work`` raises.
    """
    task = asyncio.get_running_loop().create_task(work)
    at_work = AT_WORK.get()
    if at_work is not None:
        at_work.aside(task.cancel)
    try:
        await asyncio.wait({task}, timeout=seconds)
        return task.result() if task.done() and not task.cancelled() else None
    finally:
        task.cancel()
        if at_work is not None:
            at_work.aside(None)


def traceparent_of(row_id: str, created_at: bytes) -> bytes:
    """The `traceparent` of a row: `00-<trace id>-<parent id>-00`.

    The flags say that no span is recorded; whoever records one changes them. ``created_at`` as in the header,
    because source tables may reuse ids.
    """
    digest = sha256(row_id.encode("utf-8", "surrogatepass") + b"\x00" + created_at).hexdigest()
    return f"00-{digest[:32]}-{digest[32:48]}-00".encode()


def trace_id_in(traceparent: bytes | None) -> str:
    """The trace id in a `traceparent` header; empty if there is none."""
    parts = (traceparent or b"").decode("ascii", "replace").split("-")
    return parts[1] if len(parts) >= 4 and len(parts[1]) == 32 else ""


def about_row(row_id: str, traceparent: bytes | None) -> dict[str, str]:
    """The fields of a log line about a row."""
    found = {"row_id": row_id, "trace_id": trace_id_in(traceparent)}
    return {name: value for name, value in found.items() if value}


def of_no_row(say: Callable[..., Any], *words: Any, **fields: Any) -> None:
    """Log a line that is not about a row, although it is written in the task of one."""
    contextvars.Context().run(say, *words, **fields)
