"""Labels on demand, as plain values: the API asks, the agents' code answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from streams.core.messages import Labeled


@dataclass(frozen=True)
class OnDemand:
    """The result for a text. Exactly one of the last three is set.

    ``text``: cleaned. ``skipped``: why it is not to be labelled, as `streams.core.text.why_skipped` returns
    it. ``error``: why the model's answer could not be used.
    """

    text: str
    labeled: Labeled | None = None
    skipped: str | None = None
    error: str | None = None


class Classifier(Protocol):
    """Labels texts. Raises RetryableError and ConfigurationError if the model cannot be asked now."""

    async def classify(self, texts: Sequence[str]) -> list[OnDemand]:
        """One result for each text, in their order."""
