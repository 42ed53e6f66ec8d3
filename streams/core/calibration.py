"""A label version's calibration: turns the confidence that a model reports into how often it is right.

It is published on the versions topic, so that all workers and replays use the same one. Fitted by
``streams/quality/calibration.py``.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import pairwise
from typing import Literal, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, model_validator

from streams.core.records import Outgoing
from streams.core.topics import Topics

CALIBRATION = "calibration/"
Alternatives = tuple[tuple[str, float], ...]
Method = Literal["temperature", "isotonic", "raw"]


class ConfidenceScale(BaseModel):
    """What turns a reported confidence into a calibrated one, by ``method``.

    `temperature`: each probability to the power of 1 / ``temperature``, scaled to the sum of 1; what is not
    reported counts as one more label. `isotonic`: ``points`` (reported, calibrated), both increasing, with
    straight lines between them; the others share what the label leaves, as before, but none gets more than
    the label. `raw`: nothing is changed.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    method: Method = "raw"
    temperature: float = Field(default=1.0, gt=0)
    points: tuple[tuple[float, float], ...] = ()

    @model_validator(mode="after")
    def _has_lines(self) -> Self:
        if self.method == "isotonic" and not (
            self.points and all(left < right for (left, _), (right, _) in pairwise(self.points))
        ):
            raise ValueError("isotonic without points in order")
        return self

    def apply(self, confidence: float, others: Alternatives) -> tuple[float, Alternatives]:
        """Calibrated probabilities, from reported ones, 0 to 1."""
        if self.method == "temperature":
            power = 1 / self.temperature
            label = confidence**power
            rest = [(name, chance**power) for name, chance in others]
            unknown = 1.0 - confidence - sum(chance for _, chance in others)
            total = label + sum(chance for _, chance in rest)
            total += unknown**power if unknown > UNREPORTED else 0.0
            if not total:
                return confidence, others
            return label / total, tuple((name, chance / total) for name, chance in rest)
        if self.method == "isotonic":
            calibrated = self._on_lines(confidence)
            return calibrated, _shared(others, confidence, calibrated)
        return confidence, others

    def undo(self, raw: float, calibrated: float, others: Alternatives) -> Alternatives:
        """The reported probabilities of the others, from what `apply` returned and the reported ``raw``; less
        than these where isotonic steps had made the greatest of them as great as the label.
        """
        if self.method == "temperature" and calibrated > 0:
            factor = raw / calibrated**self.temperature
            return tuple((name, min(1.0, factor * chance**self.temperature)) for name, chance in others)
        return _shared(others, calibrated, raw) if self.method == "isotonic" else others

    def _on_lines(self, confidence: float) -> float:
        at = bisect_right(self.points, confidence, key=lambda point: point[0])
        if at == 0:
            return self.points[0][1]
        if at == len(self.points):
            return self.points[-1][1]
        (left, low), (right, high) = self.points[at - 1], self.points[at]
        return low + (high - low) * (confidence - left) / (right - left)


def reported(
    confidence: float,
    raw: float | None,
    generation: int | None,
    others: Alternatives,
    scales: Mapping[int, ConfidenceScale],
) -> tuple[float, Alternatives]:
    """The probabilities of a published label and of the others as the model reported them. ``generation``: of
    ``scales``, through which they went. Where it is unknown, the others are left out.
    """
    if generation is None or raw is None:
        return confidence, others
    scale = scales.get(generation)
    return raw, scale.undo(raw, confidence, others) if scale is not None else ()


# Less than this is the rounding of what was reported, and no further label.
UNREPORTED = 1e-6


def _shared(others: Alternatives, before: float, after: float) -> Alternatives:
    """The others, where the label had ``before`` and has ``after``."""
    if before >= 1 or after >= 1:
        return others
    # Rounded probabilities may sum to more than 1.
    factor = (1 - after) / max(1 - before, sum(chance for _, chance in others))
    most = min(before, max((chance for _, chance in others), default=0.0))
    if factor * most > after:
        factor = after / most
    return tuple((name, chance * factor) for name, chance in others)


class VersionCalibration(ConfidenceScale):
    """A version's scale of one generation, the first is 1; never changed under the same number: of several
    fits that were published for it the first one stands.

    ``rows``: drawn rows that it was fitted on. ``log_loss`` and ``log_loss_raw``: of rows left out, with and
    without it.
    """

    version: str = Field(min_length=1)
    generation: int = Field(ge=1)
    rows: int
    log_loss: float
    log_loss_raw: float
    fitted_at: datetime = Field(default_factory=lambda: datetime.now(UTC))

    @property
    def key(self) -> str:
        """Of the message on the versions topic. Another fit has another one: compaction keeps both."""
        digest = blake2b(self.model_dump_json().encode(), digest_size=8).hexdigest()
        return f"{CALIBRATION}{self.version}/{self.generation}/{digest}"

    def belongs_to(self, key: str) -> bool:
        """Whether ``key`` is that of a calibration with this version and generation; at first keys had no
        digest.
        """
        return f"{key}/".startswith(f"{CALIBRATION}{self.version}/{self.generation}/")

    def message(self, topics: Topics) -> Outgoing:
        """For the versions topic."""
        return Outgoing(topics.versions, 0, self.key.encode(), orjson.dumps(self.model_dump()))
