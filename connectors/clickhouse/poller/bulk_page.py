"""A page of many rows by columns: numpy arrays for comparisons, lists for the messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import compress
from typing import Any

import numpy as np
import orjson

from connectors.clickhouse.poller.message_sql import parts
from connectors.clickhouse.poller.plain_rows import KIND
from connectors.clickhouse.poller.published_rows import Published
from connectors.clickhouse.poller.row_identity import CONTENT
from connectors.clickhouse.source.table import SourceRow
from streams.core.codec import CREATED_AT
from streams.core.context import TRACEPARENT
from streams.core.records import Run


@dataclass(frozen=True, slots=True)
class BulkPage:
    """Rows of a source table in no order. Numpy arrays for what is compared, lists for what is sent.

    ``values``: a plain row's message without its end; the `parts` of another row.
    """

    micros: Any  # int64, since 1970
    contents: Any  # uint64, as `Mark.content`
    ids: Any  # uint64, as `Mark.id`
    texts: Any  # uint64, from which the partition is calculated
    plain: Any  # bool
    keys: Sequence[bytes]
    values: Sequence[bytes]
    created: Sequence[bytes]
    traces: Sequence[bytes]
    marks: Sequence[bytes]

    @classmethod
    def of(cls, columns: Sequence[Sequence[Any]]) -> BulkPage:
        """``columns`` as in `message_sql.COLUMNS`."""
        kinds: tuple[Any, ...] = (np.int64, np.uint64, np.uint64, np.uint64, np.bool_)
        compared, sent = columns[: len(kinds)], columns[len(kinds) :]
        arrays: list[Any] = [np.array(column, kind) for column, kind in zip(compared, kinds, strict=True)]
        return cls(*arrays, *sent)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def newest(self) -> int:
        """The latest time, microseconds since 1970."""
        return int(self.micros.max())

    @property
    def oldest(self) -> int:
        """The earliest time."""
        return int(self.micros.min())

    def numbers(self, partitions: int) -> Any:
        """The partition of each plain row's message."""
        return (self.texts % np.uint64(partitions)).astype(np.int64)

    def sorted_out(self, published: Published) -> tuple[Any, Any]:
        """Two masks: the rows whose message is sent as it is, and those that must be checked one by one.

        Neither includes rows that were published. To be checked are rows that are not plain, rows that share
        their content with others of the page, and rows that share their id with others or with a published
        row.
        """
        known = published.counts(self.contents, self.oldest, self.newest)
        alone = _alone(self.contents)
        new = (known == 0) | ~alone
        taken = published.ids_taken(self.ids) | ~(_alone(self.ids) | (self.ids == 0))
        as_it_is = new & alone & self.plain & ~taken
        return as_it_is, new & ~as_it_is

    def only(self, mask: Any) -> BulkPage:
        """Those rows; itself if all of them are."""
        if mask.all():
            return self
        chosen = mask.tolist()
        arrays: list[Any] = [self.micros, self.contents, self.ids, self.texts, self.plain]
        lists: list[Any] = [self.keys, self.values, self.created, self.traces, self.marks]
        kept = (list(compress(column, chosen)) for column in lists)
        return BulkPage(*(array[mask] for array in arrays), *kept)

    def runs(self, topic: str, partitions: int, polled_at: datetime) -> list[tuple[Run, int]]:
        """The messages of a page of plain rows, for each partition that gets some; and their newest time."""
        end = orjson.dumps(polled_at, option=orjson.OPT_UTC_Z)[1:] + b"}"
        numbers = self.numbers(partitions)
        order = np.argsort(numbers, kind="stable")
        numbers = numbers[order]
        first = np.flatnonzero(np.diff(numbers, prepend=-1))
        newest = np.maximum.reduceat(self.micros[order], first) if len(self) else first
        return [
            (Run(topic, number, self._messages(rows.tolist(), end)), latest)
            for number, rows, latest in zip(
                numbers[first].tolist(), np.split(order, first[1:]), newest.tolist(), strict=True
            )
        ]

    def _messages(
        self, rows: list[int], end: bytes
    ) -> Iterator[tuple[bytes, bytes, list[tuple[str, bytes]]]]:
        keys, values, created = self.keys, self.values, self.created
        traces, marks = self.traces, self.marks
        kind, version = KIND
        for at in rows:
            headers = [
                kind,
                version,
                (CREATED_AT, created[at]),
                (TRACEPARENT, traces[at]),
                (CONTENT, marks[at]),
            ]
            yield keys[at], values[at] + end, headers

    def rows(self, mask: Any) -> list[SourceRow]:
        """Those rows as the table has them, in order of time and tie."""
        found = [self._row(at) for at in np.flatnonzero(mask).tolist()]
        return sorted(found, key=lambda row: (row.micros, row.tie))

    def _row(self, at: int) -> SourceRow:
        micros = int(self.micros[at])
        if not self.plain[at]:
            id_, text, user, session, domain = parts(self.values[at])
        else:
            held = orjson.loads(self.values[at] + b'"}')
            id_ = self.keys[at] if self.ids[at] else None
            text, user, session, domain = (
                None if held[name] is None else held[name].encode()
                for name in ("text", "user_id", "session_id", "source_domain")
            )
        tie = id_ or b"\x00".join((user or b"", text or b""))
        return SourceRow(micros, tie, id_, text, user, session, domain)


def _alone(values: Any) -> Any:
    """For each value whether it occurs only once."""
    order = np.argsort(values)
    equal = np.diff(values[order]) == 0
    alone = np.ones(len(values), dtype=bool)
    alone[order[1:][equal]] = alone[order[:-1][equal]] = False
    return alone
