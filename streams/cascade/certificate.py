"""Whether a proxy's labels may take the place of the model's: a test that holds whenever one looks.

For each of several thresholds on the proxy's score there is a wealth, which bets on the rows being fine: it
is multiplied by 1 + bet x (limit - loss). If the mean loss were above the limit, the wealth would be a
supermartingale, and would ever reach 1 / risk with probability at most ``risk`` (Ville's inequality). The
thresholds are tested from the highest downwards, and one counts as certified only with those above it. So all
of them together err with probability at most ``risk``. There are two such sequences with half of the risk
each: one from the highest threshold on, and one from the fourth on, which has all of the risk if the first
sequence comes that far (Wiens 2003, the fallback procedure). A single one would end where by chance one of
the first thresholds does not pass.

Two kinds. Against people: rows of the audit, the loss is whether the model was right less whether the proxy
was, 0 for rows that the proxy would not label, and the limit is the margin. Against the model: rows that the
proxy would label, the loss is whether their labels differ.

Betting: Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting. Thresholds:
BARGAIN, arXiv 2509.02896.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field

from streams.cascade.bounds import lower_bound

Kind = Literal["people", "llm"]
# Least agreement with a model that never differs from itself.
AGREEMENT = 0.95
# Of the risk against the model: that the model differs from itself less often than its bound says.
_ALPHA_SHARE = 0.2
# Of the largest bet that a single loss cannot turn into nothing.
_MOST_BET = 0.95
# The threshold from which on half of the risk begins anew, whether those above have passed or not.
_SECOND_START = 3
_ERRORS = 2.0


def risk_of(risk: float, generation: int) -> float:
    """The share of ``risk`` of one kind of certificate of one generation, 1, 2, ...: all of them sum to
    ``risk``.
    """
    return risk / 2 * 6 / (math.pi * generation) ** 2


class Wealth(BaseModel):
    """Of one threshold. ``logarithm``: of the wealth now; ``highest``: ever. ``rows``: that it has bet on,
    ``lost`` of them with the loss 1 and ``gained`` with -1.
    """

    model_config = ConfigDict(frozen=True)

    logarithm: float = 0.0
    highest: float = 0.0
    rows: int = 0
    lost: int = 0
    gained: int = 0


class AskedTwice(NamedTuple):
    """Texts that the model labelled twice, the options in another order: how many, and how many of them it
    labelled otherwise.
    """

    asked: int = 0
    differed: int = 0


class Certificate(BaseModel):
    """Of one kind, for one generation; a value, which an observation makes a new one of.

    ``thresholds``: of the score, descending. ``limit``: of the mean loss, the margin or alpha. ``risk``: that
    a certified threshold has a greater one.
    """

    model_config = ConfigDict(frozen=True)

    kind: Kind
    thresholds: tuple[float, ...]
    limit: float = Field(gt=0, lt=1)
    risk: float = Field(gt=0, lt=1)
    wealths: tuple[Wealth, ...]
    rows: int = 0

    @classmethod
    def new(cls, kind: Kind, thresholds: Sequence[float], limit: float, risk: float) -> Self:
        """One that nothing was observed for. ``risk``: from `risk_of`."""
        ordered = tuple(sorted(thresholds, reverse=True))
        return cls(kind=kind, thresholds=ordered, limit=limit, risk=risk, wealths=(Wealth(),) * len(ordered))

    @classmethod
    def against_model(cls, thresholds: Sequence[float], twice: AskedTwice, risk: float) -> Self:
        """One against the model, that nothing was observed for. ``twice``: texts that the highest threshold
        would route, and of which none is observed later. ``risk``: from `risk_of`; that of a wrong bound of
        how often the model differs from itself is a part of it.
        """
        if not twice.asked:
            return cls.new("llm", thresholds, 1 - AGREEMENT, risk)
        limit = alpha_of(twice, risk * _ALPHA_SHARE)
        return cls.new("llm", thresholds, limit, risk * (1 - _ALPHA_SHARE))

    @property
    def certified(self) -> int:
        """Which of the thresholds is the lowest certified one, counted from 1; 0 if none is."""
        half = self._passed(0, min(_SECOND_START, len(self.wealths)), self.risk / 2)
        if len(self.wealths) <= _SECOND_START:
            return self._passed(0, len(self.wealths), self.risk)
        whole = half == _SECOND_START
        rest = self._passed(_SECOND_START, len(self.wealths), self.risk if whole else self.risk / 2)
        return rest if rest > _SECOND_START else half

    def _passed(self, first: int, end: int, risk: float) -> int:
        """Behind the last threshold from ``first`` on that has passed with all between."""
        at = first
        while at < end and self.wealths[at].highest >= -math.log(risk):
            at += 1
        return at

    @property
    def threshold(self) -> float | None:
        """The lowest certified one that is still well within the limit; None if there is none."""
        for at in range(self.certified - 1, -1, -1):
            if self._is_within(self.wealths[at]):
                return self.thresholds[at]
        return None

    def _is_within(self, wealth: Wealth) -> bool:
        """Whether the mean loss is below the limit by some standard errors. A certificate was right at one
        time by chance, or the last threshold just passed: what rows say by now is not ignored.
        """
        if not wealth.rows:
            return False
        mean = (wealth.lost - wealth.gained) / wealth.rows
        spread = (wealth.lost + wealth.gained) / wealth.rows - mean * mean
        return mean + _ERRORS * math.sqrt(spread / wealth.rows) <= self.limit

    def speaks_against(self, threshold: float) -> bool:
        """Whether the mean loss at ``threshold``, one of `thresholds`, is above the limit by some standard
        errors.
        """
        wealth = self.wealths[self.thresholds.index(threshold)]
        lost, changed = wealth.lost - wealth.gained, wealth.lost + wealth.gained
        return lost - _ERRORS * math.sqrt(changed) > self.limit * wealth.rows

    @property
    def bound(self) -> float | None:
        """What the mean loss at `threshold` is at most, with probability 1 - risk; None without one."""
        return self.limit if self.threshold is not None else None

    def observe(self, score: float, loss: int) -> Self:
        """After one more row. ``score``: the proxy's, 0 if a veto or the gate keeps it from the row's label.
        ``loss``: of people, 1 where only the model was right, -1 where only the proxy was, else 0; of the
        model, 1 where the labels differ, else 0. Rows come in the order in which they were drawn, each
        distinct text once.
        """
        wealths = tuple(
            self._bet(wealth, loss if score >= threshold else 0)
            if self.kind == "people" or score >= threshold
            else wealth
            for threshold, wealth in zip(self.thresholds, self.wealths, strict=True)
        )
        return self.model_copy(update={"wealths": wealths, "rows": self.rows + 1})

    def _bet(self, wealth: Wealth, loss: int) -> Wealth:
        after = wealth.logarithm + math.log1p(self._bet_on(wealth) * (self.limit - loss))
        return Wealth(
            logarithm=after,
            highest=max(wealth.highest, after),
            rows=wealth.rows + 1,
            lost=wealth.lost + (loss == 1),
            gained=wealth.gained + (loss == -1),
        )

    def _bet_on(self, wealth: Wealth) -> float:
        """What to bet on the next row, from the rows before it alone: what would have made the wealth grow
        most if they had been seen together with those of an ordinary case (Kelly, 1956).
        """
        lost, gained, rows = self._ordinary
        lost, gained, rows = lost + wealth.lost, gained + wealth.gained, rows + wealth.rows
        limit, below, above = self.limit, 1 - self.limit, 1 + self.limit
        level = gained * above + (rows - lost - gained) * limit - lost * below
        if level <= 0:
            return 0.0
        # The derivative of the mean logarithm, by all denominators: a quadratic with one root above 0.
        square = below * above * limit * rows
        slope = (
            gained * above * (limit - below)
            + (rows - lost - gained) * limit * (above - below)
            - lost * below * (above + limit)
        )
        best = (slope + math.sqrt(slope * slope + 4 * square * level)) / (2 * square)
        return min(best, _MOST_BET / below)

    @property
    def _ordinary(self) -> tuple[float, float, float]:
        """Lost, gained and all rows of an ordinary case."""
        if self.kind == "people":
            return 3.0, 9.0, 252.0
        return 20 * self.limit, 0.0, 50.0


def loss_to_people(model: str, proxy: str, right: str) -> int:
    """The loss of one audited row that the proxy would label, to be observed of people."""
    return (model == right) - (proxy == right)


def alpha_of(twice: AskedTwice, risk: float) -> float:
    """How often a proxy may differ from the model at most: what is left to AGREEMENT, and half of how often
    the model surely differs from itself. Of two labels that err at random one is right half of the time that
    they differ; so that is how often a proxy differs that makes no error. ``risk``: that the model differs
    from itself less often than that.
    """
    return 1 - AGREEMENT + lower_bound(twice.differed, twice.asked, risk) / 2
