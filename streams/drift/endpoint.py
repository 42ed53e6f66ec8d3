"""Whether the model behind a name is still the one that made a version's labels.

Some texts of the version are asked again each hour, past the cache of answers. An endpoint may differ from
itself: it computes batches in another order, or draws its answers. So each text is first asked several times
at once, and how often its answer is another one then, and in all quiet hours since, is what is usual for it.

A likelihood ratio says what speaks for another model, which answers a tenth of the texts otherwise, time and
again: of a text that differs in all of the last w rounds, and usually in a share p, it is 0.9 + 0.1 / p^w, of
any other 0.9. If nothing has changed, a product of these of 100,000 or more has a chance of 1 in 100,000 at
most.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

# Texts of a version, rounds at its beginning, and how many rounds wait before they count as usual.
TEXTS, FIRST_ROUNDS, _YOUNG = 100, 5, 24
# A round in which fewer were answered says nothing.
LEAST_ANSWERS = 30
# 720 rounds a month, two windows each: a false alarm in some seventy months.
_EVIDENCE = math.log(1e5)
_OTHERWISE = 0.1
# What all texts together say of one counts as so many rounds of it.
_PRIOR_ROUNDS = 10.0


class AskedText(BaseModel):
    """A row whose text is asked again, and its answer when it was first asked. The text itself is looked up
    each time: a row that is erased is gone, and its ``row_id`` is empty from the next round on.

    ``asked``, ``differed``: usual rounds with an answer, and with another one than at first.
    """

    model_config = ConfigDict(frozen=True)

    row_id: str
    created_at: datetime
    label: str
    asked: int = 0
    differed: int = 0


class Round(BaseModel):
    """``differed``, ``missing``: the texts, by number, with another answer than at first, and with none."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    differed: list[int] = Field(default_factory=list)
    missing: list[int] = Field(default_factory=list)


class EndpointWatch(BaseModel):
    """The texts and rounds of a version, as they stand on the topic.

    ``first``: rounds of the beginning. ``asked_at``: of the last round. ``rounds``: those that are not among
    the usual ones yet, the newest last. ``since``: of the alarm.
    """

    model_config = ConfigDict(frozen=True)

    version: str
    texts: list[AskedText] = Field(default_factory=list)
    first: int = 0
    asked_at: datetime | None = None
    rounds: list[Round] = Field(default_factory=list)
    since: datetime | None = None

    @property
    def learning(self) -> bool:
        """Whether the rounds that tell its noise are lacking still."""
        return self.first < FIRST_ROUNDS

    def add(self, one: Round) -> EndpointWatch:
        """With one more round. Rounds that are a day old and were quiet tell what is usual."""
        if len(self.texts) - len(one.missing) < LEAST_ANSWERS:
            return self
        if self.learning:
            return self._usual([one]).model_copy(update={"first": self.first + 1})
        rounds = [*self.rounds, one]
        if max(self._evidence(rounds[-1:]), self._evidence(rounds[-2:])) >= _EVIDENCE:
            return self.model_copy(update={"rounds": rounds[-_YOUNG:], "since": self.since or one.at})
        if self.since is not None:  # as it was again; what was between is not usual
            return self.model_copy(update={"rounds": [one], "since": None})
        return self.model_copy(update={"rounds": rounds[-_YOUNG:]})._usual(rounds[:-_YOUNG])

    def _usual(self, some: Sequence[Round]) -> EndpointWatch:
        texts = [
            text.model_copy(
                update={
                    "asked": text.asked + sum(number not in one.missing for one in some),
                    "differed": text.differed + sum(number in one.differed for one in some),
                }
            )
            for number, text in enumerate(self.texts)
        ]
        return self.model_copy(update={"texts": texts if some else self.texts})

    def _evidence(self, some: Sequence[Round]) -> float:
        """The logarithm of the likelihood ratio."""
        usual = self._noise()
        found = 0.0
        for number, text in enumerate(self.texts):
            if any(number in one.missing for one in some):
                continue
            share = (text.differed + _PRIOR_ROUNDS * usual) / (text.asked + _PRIOR_ROUNDS)
            always = all(number in one.differed for one in some)
            found += math.log(1 - _OTHERWISE + (_OTHERWISE / share ** len(some) if always else 0.0))
        return found

    def _noise(self) -> float:
        asked, differed = sum(one.asked for one in self.texts), sum(one.differed for one in self.texts)
        return (differed + 0.5) / (asked + 1.0)

    def told(self) -> dict[str, float | int | str | None]:
        """For reports. ``differs``: the share of texts with another answer in the newest round; ``usual``: in
        the usual ones.
        """
        newest = self.rounds[-1] if self.rounds else None
        asked = len(self.texts) - len(newest.missing) if newest else 0
        return {
            "version": self.version,
            "texts": len(self.texts),
            "differs": len(newest.differed) / asked if newest and asked else None,
            "usual": None if self.learning else self._noise(),
            "since": self.since.isoformat() if self.since else None,
            "at": newest.at.isoformat() if newest else None,
        }
