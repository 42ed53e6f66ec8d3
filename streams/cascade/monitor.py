"""Whether a certified proxy still agrees with the model: an alarm per label, and one over all.

Of audited rows that the proxy was sure of: M becomes max(1, M) x (1 + bet x (differs - alpha)), where alpha
is the disagreement that is to be expected. At ALARM the labels differ more often than that; without a change
that takes ALARM rows of a monitor on average, or more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

ALARM = 10_000.0
# Added to what was found at certification.
_SLACK = 0.02
# The rise that is found soonest: over all, and of a label.
_SHIFT, _LABEL_SHIFT = 0.12, 0.4


class Monitor(BaseModel):
    """A value, which an observation makes a new one of. ``alpha``: expected disagreement, over all and of
    each label of ``alphas``. ``overall`` and ``labels``: M.
    """

    model_config = ConfigDict(frozen=True)

    alpha: float = Field(gt=0, lt=1)
    alphas: Mapping[str, float] = {}
    overall: float = 1.0
    labels: Mapping[str, float] = {}
    rows: int = 0

    @classmethod
    def new(cls, alpha: float, alphas: Mapping[str, float]) -> Self:
        """``alpha``: what was found at certification, of all and of each label, 0..1; slack is added here."""
        return cls(alpha=alpha + _SLACK, alphas={label: value + _SLACK for label, value in alphas.items()})

    @property
    def alarms(self) -> tuple[str, ...]:
        """The labels whose M has reached ALARM; `*` for that over all."""
        found = [label for label, value in self.labels.items() if value >= ALARM]
        return (*(["*"] if self.overall >= ALARM else []), *sorted(found))

    def observe(self, label: str, differs: bool) -> Self:
        """After an audited text to which the proxy would have given ``label``: whether the model differs."""
        alpha = self.alphas.get(label, self.alpha)
        of_label = _after(self.labels.get(label, 1.0), differs, alpha, _LABEL_SHIFT)
        return self.model_copy(
            update={
                "overall": _after(self.overall, differs, self.alpha, _SHIFT),
                "labels": {**self.labels, label: of_label},
                "rows": self.rows + 1,
            }
        )


def _after(value: float, differs: bool, alpha: float, shift: float) -> float:
    """M after a row, with the bet that grows fastest if the disagreement has become alpha + ``shift``."""
    return max(1.0, value) * (1 + min(shift, 0.9 * (1 - alpha)) / (alpha * (1 - alpha)) * (differs - alpha))
