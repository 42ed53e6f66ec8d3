"""Rows whose time is NULL: they have no position in the order of reading, and become dead letters, once.

The cursor lists those that did, by digest. There should be few; beyond some thousands they are only counted.
Nobody waits for them: a partition that cannot be written delays only its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import orjson
import structlog

from connectors.clickhouse.poller.held_rows import Sending
from connectors.clickhouse.poller.row_identity import RowDigests, name_row
from connectors.clickhouse.source.table import SourceRow
from streams.core.codec import encode_dead_letter
from streams.core.context import TRACEPARENT, traceparent_of
from streams.core.messages import DeadLetter
from streams.core.records import Outgoing, Partition, Run, by_partition
from streams.core.text import why_skipped
from streams.core.topics import partition_of
from streams.ports.kafka import BulkSender
from streams.ports.outages import settled, stopped

log = structlog.get_logger()

MOST = 5_000


class _Letter(NamedTuple):
    mark: str
    outgoing: Outgoing


class Timeless:
    """The dead letters of rows without a time."""

    def __init__(
        self,
        topic: str,
        source: str,
        *,
        partitions: int,
        least_bytes: int,
        sender: BulkSender,
        counts: Counter[str],
        digests: RowDigests | None = None,
        private: bool = False,
    ) -> None:
        """``topic``: for dead letters. ``least_bytes`` as in `why_skipped`. ``private``: they have no bytes,
        only where the row is."""
        self.settled: set[str] = set()
        self._topic = topic
        self._source = source
        self._partitions = partitions
        self._least_bytes = least_bytes
        self._sender = sender
        self._counts = counts
        self._digests = digests or RowDigests()
        self._private = private
        self._sending: list[tuple[Sending, Partition, list[str]]] = []  # with their marks

    def learn(self, settled: Iterable[str]) -> None:
        """The digests in the cursor."""
        self.settled = set(settled)

    async def settle(self, rows: Sequence[SourceRow]) -> bool:
        """Make dead letters of those of ``rows`` that have none yet. True if some are confirmed: then save
        the cursor. Those of a partition that cannot be written are confirmed in a later call.

        Raises:
            RetryableError: it is unknown what was written.
        """
        seen: Counter[bytes] = Counter()
        letters: list[_Letter] = []
        known = self.settled.union(*(marks for _, _, marks in self._sending))
        for row in rows:
            text = (row.text or b"").decode("utf-8", "replace")
            if why_skipped(row.text, text.strip(), self._least_bytes) is not None:
                continue
            content = self._digests.content(row)
            seen[content] += 1
            others = [self._digests.content_under(one, row) for one in self._digests.others]
            mark, *older = (f"{one.hex()[:16]}{seen[content]}" for one in (content, *others))
            if known.isdisjoint((mark, *older)):
                letters.append(_Letter(mark, self._outgoing(row, text, content, seen[content])))
        await self._hand_over(letters[: max(0, MOST - len(known))])
        sending = [(task, where) for task, where, _ in self._sending]
        await settled(sending, lambda: stopped(self._sender.outages))
        return self._confirmed()

    async def _hand_over(self, letters: Sequence[_Letter]) -> None:
        if not letters:
            return
        places = by_partition(letters, lambda letter: letter.outgoing)
        runs = [Run.of(where, [one.outgoing for one in some]) for where, some in places.items()]
        tasks = await self._sender.hand_over(runs)
        marks = ([one.mark for one in some] for some in places.values())
        self._sending += zip(tasks, places, marks, strict=True)

    def _confirmed(self) -> bool:
        done = [(task, marks) for task, _, marks in self._sending if task.done()]
        self._sending = [one for one in self._sending if not one[0].done()]
        for task, _ in done:
            task.result()
        marks = [mark for _, some in done for mark in some]
        if marks:
            self.settled.update(marks)
            self._counts["dead_letters:no-time"] += len(marks)
            log.warning("rows without a time are dead letters", count=len(marks))
        return bool(marks)

    def _outgoing(self, row: SourceRow, text: str, content: bytes, ordinal: int) -> Outgoing:
        row_id = name_row(row, content, ordinal, False)
        fields = {
            name: None if value is None else value.decode("utf-8", "replace")
            for name, value in zip(row._fields[2:], row[2:], strict=True)
        }
        where = self._source if not self._private else f"{self._source}, id {row_id},"
        letter = DeadLetter(
            row_id=row_id,
            step="poll",
            reason="no-time",
            error=f"the row of {where} has no time; give it one, and it is published",
            failed_at=datetime.now(UTC),
            payload=b"" if self._private else orjson.dumps(fields)[:900_000],
        )
        value, headers = encode_dead_letter(letter)
        headers.append((TRACEPARENT, traceparent_of(row_id, b"")))
        place = partition_of(row_id if self._private else text, self._partitions)
        return Outgoing(self._topic, place, row_id.encode(), value, headers)
