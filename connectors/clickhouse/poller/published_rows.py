"""The published rows that may be read again: exact up to 64-bit digests, 32 bytes a row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from connectors.clickhouse.poller.row_identity import Mark
from streams.core.records import Partition

_CHUNK_ROWS = 200_000


class Published:
    """The marks of published (or skipped) rows within the look-back window, with the number of equal ones.

    Sorted arrays instead of sets: a million rows take 32 MB, and a page is compared at once. They are kept in
    chunks, of one generation each. Only the last one of a generation is added to, and chunks that are too old
    are dropped as a whole.

    Rows that are left in the table for now, because their partition cannot be written, are known as well.
    """

    def __init__(self) -> None:
        self._chunks: list[_Chunk] = []
        self._left: dict[Partition, Published] = {}

    def __len__(self) -> int:
        return sum(map(len, self._chunks))

    def counts(self, contents: Any, since: int | None = None, until: int | None = None) -> Any:
        """For each content (uint64) the number of its rows that are published or left, as an array.

        ``since``, ``until``: the first and last time of the rows in question, if known.
        """
        there = (
            chunk.contents
            for chunk in self._known
            if (since is None or chunk.newest >= since) and (until is None or chunk.oldest <= until)
        )
        return _counts(list(there), contents)

    def counts_of_any(self, contents: Sequence[Sequence[int]]) -> list[int]:
        """As `counts`, for rows that have several contents each, equally many: that of each key."""
        if not contents:
            return []
        columns = np.array(contents, np.uint64).T
        return sum((self.counts(column) for column in columns), np.zeros(len(contents), np.intp)).tolist()

    def ids_taken(self, ids: Any) -> Any:
        """For each plain id (uint64) whether a row has it, as an array."""
        asked = np.asarray(ids, dtype=np.uint64)
        return (_counts([chunk.sorted_ids for chunk in self._chunks], asked) > 0) & (asked != 0)

    def add(self, marks: Iterable[Mark]) -> None:
        """Add the marks of published rows."""
        by_generation: dict[int, list[Mark]] = {}
        for mark in marks:
            by_generation.setdefault(mark.generation, []).append(mark)
        for generation, some in by_generation.items():
            micros, contents, ids, _ = zip(*some, strict=True)
            self._add(_Chunk(micros, contents, ids, generation))

    def add_columns(self, micros: Any, contents: Any, ids: Any) -> None:
        """The same by columns: int64, and uint64 twice; of digests without a key."""
        self._add(_Chunk(micros, contents, ids))

    def generations(self) -> set[int]:
        """Those of the keys of the contents, 0 for those without a key."""
        return {chunk.generation for chunk in self._chunks}

    def _add(self, chunk: _Chunk) -> None:
        same = [place for place, one in enumerate(self._chunks) if one.generation == chunk.generation]
        if same and len(self._chunks[same[-1]]) + len(chunk) <= _CHUNK_ROWS:
            chunk = self._chunks.pop(same[-1]).merged(chunk)
        if len(chunk):
            self._chunks.append(chunk)

    def forget_before(self, micros: int) -> None:
        """Drop rows that are older than this: they are not read again."""
        kept = (chunk.since(micros) for chunk in self._chunks)
        self._chunks = [chunk for chunk in kept if len(chunk)]

    @property
    def _known(self) -> list[_Chunk]:
        return [*self._chunks, *(chunk for rows in self._left.values() for chunk in rows._chunks)]

    def leave(self, where: Partition, micros: Any, contents: Any) -> None:
        """Add rows of the partition ``where`` that are left in the table: int64 and uint64. Their ids are
        free for other rows."""
        if len(micros):
            rows = self._left.setdefault(where, Published())
            rows.add_columns(micros, contents, np.zeros(len(micros), np.uint64))

    def left(self) -> dict[Partition, int]:
        """The oldest time of the rows of each partition that are left."""
        return {where: min(chunk.oldest for chunk in rows._chunks) for where, rows in self._left.items()}

    def take_back(self, where: Partition) -> None:
        """Forget the rows of ``where`` that are left: they are to be published."""
        del self._left[where]

    def since(self, micros: int) -> list[Mark]:
        """The marks of published rows from ``micros`` on."""
        return [mark for chunk in self._chunks for mark in chunk.since(micros).marks()]

    def count_since(self, micros: int) -> int:
        """The number of marks from ``micros`` on."""
        return sum(int((chunk.micros >= micros).sum()) for chunk in self._chunks if chunk.newest >= micros)

    def per_second(self, since: int, until: int) -> dict[int, int]:
        """The number of rows of each second, left ones too, from ``since`` to before ``until``."""
        micros = np.concatenate([chunk.micros for chunk in self._known] or [np.array([], dtype=np.int64)])
        seconds, counts = np.unique(
            micros[(micros >= since) & (micros < until)] // 1_000_000, return_counts=True
        )
        return dict(zip(seconds.tolist(), counts.tolist(), strict=True))


class _Chunk:
    """Marks of one ``generation`` sorted by content, and their ids sorted."""

    def __init__(self, micros: Any, contents: Any, ids: Any, generation: int = 0) -> None:
        """Columns in any order, of equal length."""
        self.generation = generation
        contents = np.asarray(contents, dtype=np.uint64)
        order = np.argsort(contents, kind="stable")
        self.contents = contents[order]
        self.micros = np.asarray(micros, dtype=np.int64)[order]
        self.ids = np.asarray(ids, dtype=np.uint64)[order]
        self.sorted_ids = np.sort(self.ids)
        self.oldest, self.newest = (
            (int(self.micros.min()), int(self.micros.max())) if len(self.micros) else (0, 0)
        )

    def __len__(self) -> int:
        return len(self.contents)

    def merged(self, other: _Chunk) -> _Chunk:
        return _Chunk(
            np.concatenate([self.micros, other.micros]),
            np.concatenate([self.contents, other.contents]),
            np.concatenate([self.ids, other.ids]),
            self.generation,
        )

    def since(self, micros: int) -> _Chunk:
        if self.oldest >= micros:
            return self
        keep = self.micros >= micros
        return _Chunk(self.micros[keep], self.contents[keep], self.ids[keep], self.generation)

    def marks(self) -> list[Mark]:
        rows = zip(self.micros.tolist(), self.contents.tolist(), self.ids.tolist(), strict=True)
        return [Mark(*row, self.generation) for row in rows]


def _counts(chunks: list[Any], asked: Any) -> Any:
    """How often each of ``asked`` occurs in the sorted ``chunks``."""
    asked = np.asarray(asked, dtype=np.uint64)
    found = np.zeros(len(asked), dtype=np.intp)
    if not len(asked):
        return found
    # In order: each search begins where the last one ended, so its memory is in the cache.
    order = np.argsort(asked)
    inorder, total = asked[order], found.copy()
    for chunk in chunks:
        left = np.searchsorted(chunk, inorder, "left")
        # Most do not occur; only the others have to be counted.
        hits = np.flatnonzero(np.take(chunk, left, mode="clip") == inorder)
        if len(hits):
            total[hits] += np.searchsorted(chunk, inorder[hits], "right") - left[hits]
    found[order] = total
    return found
