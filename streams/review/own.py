"""The rows at the reviewers' desks of this process, and their answers, which the tables show later."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from streams.core.messages import HumanLabel, Labeled
from streams.ports.lookups import Place
from streams.ports.review import DrawnBy, ReviewAnswer

_MOST = 5_000


class OwnRow(NamedTuple):
    """A row at a reviewer's desk: its label at that time, and the reviewer's answer; None before that."""

    was: Labeled
    said: HumanLabel | ReviewAnswer | None
    probability: float | None

    @property
    def given(self) -> str | None:
        """The label, or the answer without one."""
        if self.said is None:
            return None
        return self.said.label if isinstance(self.said, HumanLabel) else self.said.answer

    @property
    def said_at(self) -> datetime | None:
        """When it was answered."""
        if self.said is None:
            return None
        return self.said.labeled_at if isinstance(self.said, HumanLabel) else self.said.answered_at

    def after(self, at: datetime) -> OwnRow:
        """The same, whose next answer is later than ``at``."""
        return self._replace(was=self.was.model_copy(update={"labeled_at": at}))


class OwnRows:
    """By desk, row and queue; the newest 5,000."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, Place, DrawnBy], OwnRow] = {}

    def get(self, owner: str, place: Place, queue: DrawnBy) -> OwnRow | None:
        """None if it is not known here."""
        return self._rows.get((owner, place, queue))

    def keep(self, owner: str, place: Place, queue: DrawnBy, own: OwnRow) -> None:
        """As the newest one."""
        self._rows.pop((owner, place, queue), None)
        self._rows[owner, place, queue] = own
        if len(self._rows) > _MOST:
            self._rows.pop(next(iter(self._rows)))

    def answered(self, owner: str, place: Place, queue: DrawnBy) -> bool:
        """Whether the reviewer answered it here."""
        own = self.get(owner, place, queue)
        return own is not None and own.said is not None
