"""What calls have in common, how long one may take, and how one failed."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

from connectors.llm.answer import Completion
from connectors.llm.evidence import Evidence
from connectors.llm.request import Asked
from streams.core.errors import LabelstreamError, OverloadedError
from streams.ports.spans import ModelCall

Check = Callable[[Completion], None]
T = TypeVar("T")


@dataclass
class Form:
    """What the requests of one kind have in common: all but their text. ``check`` raises AnswerError for
    an answer that cannot be used; ``asked``: a late request to ``model``.
    """

    name: str
    model: str
    asked: Asked
    check: Check | None
    evidence: Evidence = field(default_factory=Evidence)
    trying: asyncio.Task[None] | None = None
    said: str = ""  # why this form alone waits


@dataclass(frozen=True)
class Failure:
    """A call that failed. ``ended``: seconds of a monotonic clock."""

    error: LabelstreamError
    ended: float
    form: Form


class Patience:
    """How long one call may take in all, with its waiting and its tries, from now on."""

    def __init__(self, seconds: Callable[[], float], away: Callable[[], LabelstreamError | None]) -> None:
        """``seconds``: in all, as the client has it now. ``away``: why calls wait, if they do."""
        self._began = time.monotonic()
        self._seconds = seconds
        self._away = away

    @property
    def endless(self) -> bool:
        """Whether it never ends."""
        return math.isinf(self._seconds())

    def lasts(self, seconds: float) -> bool:
        """Whether it lasts so much longer."""
        return time.monotonic() + seconds - self._began <= self._seconds()

    async def within(self, work: Awaitable[T], *, or_else: LabelstreamError | None = None) -> T:
        """The result of ``work``, if it comes before patience ends.

        Raises:
            LabelstreamError: patience ended: why calls wait, ``or_else``, or that there was no place.
        """
        if self.endless:
            return await work
        try:
            async with asyncio.timeout(max(0.0, self._seconds() - (time.monotonic() - self._began))):
                return await work
        except TimeoutError:
            late = OverloadedError("no place at the endpoint came free in time")
            raise (self._away() or or_else or late) from None


def host_and_port(url: str) -> tuple[str, int]:
    """Where ``url`` points to."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def traced_call(
    form: Form,
    body: dict[str, Any],
    place: tuple[str, int],
    began: int,
    found: Completion | LabelstreamError,
) -> ModelCall:
    """A request that has ended now, for its span: nothing of its text and of the answer's. Neither is kept:
    an answer with its logprobs is hundreds of objects, which the garbage collector would look at.
    """
    tokens = body.get("max_tokens") or body.get("max_completion_tokens") or 0
    known = (form.model, *place, began, time.time_ns(), tokens, body.get("temperature"))
    if isinstance(found, LabelstreamError):
        return ModelCall(*known, failed=type(found).__name__)
    return ModelCall(*known, found.model, found.finish_reason, found.input_tokens, found.output_tokens)
