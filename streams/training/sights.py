"""What a version's cascade learns from: the first sights of texts, as many as fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import NamedTuple

from streams.cascade.shares import part_of
from streams.core.topics import normalise

# Of one version; some 10 MB. More would make no generation better by much, and each later to fit.
MOST_TEXTS = 24_000


class Seen(NamedTuple):
    """A published label. ``at``: when it was decided, microseconds since 1970. ``drawn``: whether people are
    asked about the row.
    """

    text: str
    label: str
    at: int
    decided_by: str
    generation: int | None
    drawn: bool


class Sight(NamedTuple):
    """A text that the model labelled, when it was seen first. ``uniform``: it would have come to the model
    whatever a proxy says of it, so that such texts are a random sample.
    """

    text: str
    label: str
    at: int
    drawn: bool
    uniform: bool


class Sights:
    """The newest texts of a version, each once, in the order in which they came."""

    def __init__(self, version: str, most: int = MOST_TEXTS) -> None:
        self._version = version
        self._most = most
        self._sights: dict[str, Sight] = {}
        self.teaching = 0  # of them those that may teach

    def __contains__(self, digest: str) -> bool:
        return digest in self._sights

    def __len__(self) -> int:
        return len(self._sights)

    def __iter__(self) -> Iterator[tuple[str, Sight]]:
        return iter(self._sights.items())

    def get(self, digest: str) -> Sight | None:
        """The one with this text."""
        return self._sights.get(digest)

    def add(self, digest: str, sight: Sight) -> bool:
        """Keep it. False if the text is there already."""
        if digest in self._sights:
            return False
        self._sights[digest] = sight
        self.teaching += self.teaches(sight)
        if len(self._sights) > self._most:
            self.teaching -= self.teaches(self._sights.pop(next(iter(self._sights))))
        return True

    def teaches(self, sight: Sight) -> bool:
        """Whether it is of the part that is fitted."""
        return not sight.drawn and part_of(self._version, sight.text) == "teach"


def text_digest(text: str) -> str:
    """16 hexadecimal digits, the same for equal queries."""
    return blake2b(normalise(text).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
