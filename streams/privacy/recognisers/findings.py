"""What a recogniser says: where personal data stands in the text, and whose it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from operator import attrgetter

from streams.privacy.entities import Entity


@dataclass(frozen=True, slots=True)
class PersonalFinding:
    """Personal data at ``start`` to before ``end`` of the text.

    ``key``: equal for two findings of the same number, address or person.
    """

    start: int
    end: int
    entity: Entity
    key: str


def without_overlaps(text: str, findings: Iterable[PersonalFinding]) -> list[PersonalFinding]:
    """``findings`` by place. Where two overlap, the one that was given first keeps its place, and the other
    the rest of its own, if that holds a letter or a digit.
    """
    taken = bytearray(len(text))
    kept: list[PersonalFinding] = []
    for finding in findings:
        start = taken.find(0, finding.start, finding.end)
        while start >= 0:
            end = taken.find(1, start, finding.end)
            end = finding.end if end < 0 else end
            if any(char.isalnum() for char in text[start:end]):
                kept.append(replace(finding, start=start, end=end))
            start = taken.find(0, end, finding.end)
        taken[finding.start : finding.end] = b"\1" * (finding.end - finding.start)
    return sorted(kept, key=attrgetter("start"))


def joined_spans(
    spans: Iterable[tuple[int, int]], belong: Callable[[int, int], bool]
) -> Iterator[tuple[int, int]]:
    """``spans`` (begin, end), by their begin, those that belong together as one. ``belong``: whether a span
    that begins at the second place belongs to one that ends at the first.
    """
    current: tuple[int, int] | None = None
    for start, end in spans:
        if current and belong(current[1], start):
            current = current[0], max(current[1], end)
            continue
        if current:
            yield current
        current = start, end
    if current:
        yield current
