"""What is counted of the rows of a time: labels, scripts, and the means that are watched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field

QUARTER_SECONDS, HOUR_SECONDS = 900, 3600
QUARTERS = HOUR_SECONDS // QUARTER_SECONDS

# The watched means of a row: the confidence as the model reported it, the logarithm of 1 + characters, and
# the share of the text's n-grams that the reference does not know.
CONFIDENCE, LENGTH, UNKNOWN = "confidence", "length", "unknown"
MEANS = (CONFIDENCE, LENGTH, UNKNOWN)

Moments = tuple[float, float, float]


class Counts(BaseModel):
    """The rows of a time.

    ``labels``: rows by label. ``scripts``: rows by script, of those whose texts were looked at. ``means``: of
    each watched mean the number of rows that have one, the sum and the sum of squares.
    """

    model_config = ConfigDict(frozen=True)

    labels: dict[str, int] = Field(default_factory=dict)
    scripts: dict[str, int] = Field(default_factory=dict)
    means: dict[str, Moments] = Field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Labelled rows."""
        return sum(self.labels.values())


def total(some: Iterable[Counts]) -> Counts:
    """The rows of all of them."""
    labels, scripts = Counter[str](), Counter[str]()
    means: dict[str, Moments] = {}
    for one in some:
        labels.update(one.labels)
        scripts.update(one.scripts)
        for name, (n, values, squares) in one.means.items():
            before = means.get(name, (0.0, 0.0, 0.0))
            means[name] = (before[0] + n, before[1] + values, before[2] + squares)
    return Counts(labels=dict(labels), scripts=dict(scripts), means=means)
