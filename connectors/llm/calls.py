"""What calls have in common, and how one failed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from connectors.llm.answer import Completion
from connectors.llm.evidence import Evidence
from connectors.llm.request import Asked
from streams.core.errors import LabelstreamError

Check = Callable[[Completion], None]


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
