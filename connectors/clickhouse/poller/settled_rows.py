"""Rows that are labelled, dead-lettered or in flight, to be left out by whoever reads the source again."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from streams.core.messages import Row
from streams.core.settings import Settings
from streams.core.times import micros_of


def texts_differ(settings: Settings) -> bool:
    """Whether a row may have been published with another text than it has now: masked, or plain."""
    return settings.privacy_secret is not None


def plain_id(row_id: str) -> str:
    """What two rows with one id share: the id without what distinguishes them."""
    return row_id.split("~", 1)[0]


class RowDigest(NamedTuple):
    """64-bit hashes, of this process, of what identifies a row: time and text, its id, its plain id."""

    content: int
    id: int
    plain: int

    @classmethod
    def of(cls, row_id: str, micros: int, text: str) -> RowDigest:
        """``micros``: since 1970."""
        return cls(hash((micros, text)), hash(row_id), hash(plain_id(row_id)))


class Settled:
    """Rows of a page that need no other message.

    Compared by id, time and text. If two rows have one id, the order of their arrival decides which of them
    keeps the plain id. So they are compared by the id that they share, and counted.
    """

    def __init__(self, *, any_text: bool = False) -> None:
        """``any_text``: compare without the text, because the same row may have been published with another
        one, masked or not.
        """
        self._any_text = any_text
        self._ids: dict[int, set[RowDigest]] = {}
        self._seen: Counter[tuple[int, int]] = Counter()

    def add(self, row_id: str, micros: int, text: str) -> None:
        """Add a row."""
        self.add_digest(RowDigest.of(row_id, micros, "" if self._any_text else text))

    def add_digest(self, digest: RowDigest) -> None:
        """Add a row by its digest, which is without a text if texts are not compared."""
        self._ids.setdefault(digest.content, set()).add(digest)

    def has(self, row: Row, other_ids: Sequence[str] = ()) -> bool:
        """Whether ``row`` is among them, under its id or one of the ``other_ids``. Call it once for each row
        of the source, in order.
        """
        return self.has_id(row.row_id, micros_of(row.created_at), row.text, other_ids)

    def has_id(self, row_id: str, micros: int, text: str, other_ids: Sequence[str] = ()) -> bool:
        """As `has`, for a row of which there is no message."""
        text = "" if self._any_text else text
        digest = RowDigest.of(row_id, micros, text)
        known = self._ids.get(digest.content)
        if known is None:
            return False
        twins = (digest.content, digest.plain)
        self._seen[twins] += 1
        digests = [digest, *(RowDigest.of(other, micros, text) for other in other_ids)]
        plain = {one.plain for one in digests}
        return any(one in known for one in digests) or self._seen[twins] <= sum(
            one.plain in plain for one in known
        )


class PassingRows:
    """Rows that are on the topics and not in the tables yet: 32 bytes each."""

    def __init__(self, *, any_text: bool = False) -> None:
        """``any_text`` as for `Settled`."""
        self._any_text = any_text
        self._new = array("q")
        self._rows: Any = np.empty((0, 4), np.int64)  # time and `RowDigest`, in the order of time

    def add(self, row_id: str, micros: int, text: str) -> None:
        """Add a row. ``micros``: since 1970."""
        self._new.extend((micros, *RowDigest.of(row_id, micros, "" if self._any_text else text)))

    def between(self, first: int, last: int) -> Iterator[RowDigest]:
        """The rows with times from ``first`` to ``last``."""
        if self._new:
            added = np.array(self._new, np.int64).reshape(-1, 4)
            self._new = array("q")
            rows = np.concatenate([self._rows, added])
            self._rows = rows[np.argsort(rows[:, 0], kind="stable")]
        begin, end = np.searchsorted(self._rows[:, 0], [first, last + 1])
        return (RowDigest(*row) for row in self._rows[begin:end, 1:].tolist())
