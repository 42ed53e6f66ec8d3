"""Actions of people on the page: who, what, when, on what, and the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Protocol

from pydantic import BaseModel, ConfigDict, Field

from streams.core.messages import Column, Moment

# The action of who looks at all that is stored of one row.
LOOK = "look-row"


class AuditEntry(BaseModel):
    """One action, as ``audit_log`` stores it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    at: Moment = Field(description="When it ended, UTC.")
    who: str = Field(description="Name of the API key; `local` where none is asked for.")
    address: Annotated[str, Column("LowCardinality(String)")] = Field(
        default="", description="Address that the request came from."
    )
    action: Annotated[str, Column("LowCardinality(String)")] = Field(
        description="Such as `sign-in`, `letter-retry`, `replay-pause`, `version-promote`, `review-label`."
    )
    target: str = Field(default="", description="What it was done to: a row, a replay, a version, a letter.")
    result: Annotated[str, Column("LowCardinality(String)")] = Field(
        default="done", description="`done`, or the reason why it was not."
    )
    detail: str = Field(default="", description="What else a person may want to know, such as the label.")


class Audit(Protocol):
    """Records actions."""

    async def note(self, entry: AuditEntry) -> None:
        """Record it. Never raises: an entry that cannot be stored yet is logged, and stored with the next
        one.
        """

    async def newest(self, limit: int, *, looks: bool) -> Sequence[AuditEntry]:
        """At most ``limit``, the newest first; without ``looks`` only what changed something. Raises
        UnavailableError, ConfigurationError.
        """
