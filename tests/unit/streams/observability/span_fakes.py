"""An exporter that keeps the spans."""

from __future__ import annotations

from collections import Counter

from streams.ports.spans import Span


class KeptSpans:
    """The spans that were recorded."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.spans: list[Span] = []
        self.full = False

    def take(self, span: Span) -> None:
        self.spans.append(span)

    def dropped(self, count: int) -> None:
        self.counts["dropped"] += count

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]
