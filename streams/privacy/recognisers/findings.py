"""What a recogniser says: where personal data stands in the text, and whose it is."""

from __future__ import annotations

from collections.abc import Iterable
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
