"""What was published of the rows that may be read again: exact up to 64-bit digests, 32 bytes a row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from connectors.clickhouse.identity import Mark

_FRESH_ROWS = 50_000


class Published:
    """The marks of published (or skipped) rows within the look-back window, equal ones counted.

    Sorted arrays instead of sets: a million rows cost 32 MB, and a page is looked up at once. What came
    last stands in a small array of its own, so that adding does not sort the whole.
    """

    def __init__(self) -> None:
        self._old = _Marks()
        self._fresh = _Marks()

    def __len__(self) -> int:
        return len(self._old) + len(self._fresh)

    def counts(self, contents: Sequence[int]) -> list[int]:
        """For each content how many rows of it are settled."""
        asked = np.array(contents, dtype=np.uint64)
        return (self._old.counts(asked) + self._fresh.counts(asked)).tolist()  # type: ignore[no-any-return]

    def ids_taken(self, ids: Sequence[int]) -> list[bool]:
        """For each plain id whether a row stands under it."""
        asked = np.array(ids, dtype=np.uint64)
        return (self._old.has_ids(asked) | self._fresh.has_ids(asked)).tolist()  # type: ignore[no-any-return]

    def add(self, marks: Iterable[Mark]) -> None:
        """These rows are settled."""
        self._fresh = self._fresh.merged(_Marks.of(list(marks)))
        if len(self._fresh) > _FRESH_ROWS:
            self._old = self._old.merged(self._fresh)
            self._fresh = _Marks()

    def forget_before(self, micros: int) -> None:
        """Rows older than this are not read again."""
        self._old = self._old.since(micros)
        self._fresh = self._fresh.since(micros)

    def since(self, micros: int) -> list[Mark]:
        """The marks from ``micros`` on."""
        return [*self._old.since(micros).marks(), *self._fresh.since(micros).marks()]

    def count_since(self, micros: int) -> int:
        """How many marks there are from ``micros`` on."""
        return int((self._old.micros >= micros).sum() + (self._fresh.micros >= micros).sum())

    def per_second(self, since: int, until: int) -> dict[int, int]:
        """How many rows each second holds, from ``since`` on and before ``until``."""
        micros = np.concatenate([self._old.micros, self._fresh.micros])
        seconds, counts = np.unique(
            micros[(micros >= since) & (micros < until)] // 1_000_000, return_counts=True
        )
        return dict(zip(seconds.tolist(), counts.tolist(), strict=True))


class _Marks:
    """Marks sorted by content, and their ids sorted."""

    def __init__(self, contents: Any = (), micros: Any = (), ids: Any = (), sorted_ids: Any = None) -> None:
        self.contents = np.asarray(contents, dtype=np.uint64)
        self.micros = np.asarray(micros, dtype=np.int64)
        self.ids = np.asarray(ids, dtype=np.uint64)
        self._sorted_ids = np.sort(self.ids) if sorted_ids is None else sorted_ids

    @classmethod
    def of(cls, marks: Sequence[Mark]) -> _Marks:
        if not marks:
            return cls()
        micros, contents, ids = zip(*marks, strict=True)
        found = np.array(contents, dtype=np.uint64)
        order = np.argsort(found, kind="stable")
        return cls(
            found[order], np.array(micros, dtype=np.int64)[order], np.array(ids, dtype=np.uint64)[order]
        )

    def __len__(self) -> int:
        return len(self.contents)

    def counts(self, asked: Any) -> Any:
        left = np.searchsorted(self.contents, asked, "left")
        return np.searchsorted(self.contents, asked, "right") - left

    def has_ids(self, asked: Any) -> Any:
        at = np.searchsorted(self._sorted_ids, asked)
        inside = at < len(self._sorted_ids)
        found = np.zeros(len(asked), dtype=bool)
        found[inside] = self._sorted_ids[at[inside]] == asked[inside]
        return found & (asked != 0)

    def merged(self, other: _Marks) -> _Marks:
        if not len(other):
            return self
        contents = np.concatenate([self.contents, other.contents])
        order = np.argsort(contents, kind="stable")
        return _Marks(
            contents[order],
            np.concatenate([self.micros, other.micros])[order],
            np.concatenate([self.ids, other.ids])[order],
        )

    def since(self, micros: int) -> _Marks:
        keep = self.micros >= micros
        return self if keep.all() else _Marks(self.contents[keep], self.micros[keep], self.ids[keep])

    def marks(self) -> list[Mark]:
        rows = zip(self.micros.tolist(), self.contents.tolist(), self.ids.tolist(), strict=True)
        return [Mark(*row) for row in rows]
