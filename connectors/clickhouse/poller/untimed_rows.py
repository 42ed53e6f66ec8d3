"""Rows whose time is NULL: they have no position in the order of reading, and become dead letters, once.

The cursor lists those that did, by digest. There should be few; beyond some thousands they are only counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import orjson
import structlog

from connectors.clickhouse.poller.row_identity import content_of, name_row
from connectors.clickhouse.source.table import SourceRow
from streams.core.codec import encode_dead_letter
from streams.core.context import TRACEPARENT, traceparent_of
from streams.core.messages import DeadLetter
from streams.core.records import Outgoing
from streams.core.text import why_skipped
from streams.core.topics import partition_of
from streams.ports.kafka import Sender

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
        sender: Sender,
        counts: Counter[str],
    ) -> None:
        """``topic``: for dead letters. ``least_bytes`` as in `why_skipped`."""
        self.settled: set[str] = set()
        self._topic = topic
        self._source = source
        self._partitions = partitions
        self._least_bytes = least_bytes
        self._sender = sender
        self._counts = counts

    def learn(self, settled: Iterable[str]) -> None:
        """The digests in the cursor."""
        self.settled = set(settled)

    async def settle(self, rows: Sequence[SourceRow]) -> bool:
        """Make dead letters of those of ``rows`` that have none yet. True if there were any: then save the
        cursor.
        """
        seen: Counter[bytes] = Counter()
        letters: list[_Letter] = []
        for row in rows:
            text = (row.text or b"").decode("utf-8", "replace")
            if why_skipped(row.text, text.strip(), self._least_bytes) is not None:
                continue
            content = content_of(row)
            seen[content] += 1
            mark = f"{content.hex()[:16]}{seen[content]}"
            if mark not in self.settled:
                letters.append(_Letter(mark, self._outgoing(row, text, content, seen[content])))
        letters = letters[: max(0, MOST - len(self.settled))]
        if not letters:
            return False
        await self._sender.send_many([letter.outgoing for letter in letters])
        self.settled.update(letter.mark for letter in letters)
        self._counts["dead_letters:no-time"] += len(letters)
        log.warning("rows without a time are dead letters", count=len(letters))
        return True

    def _outgoing(self, row: SourceRow, text: str, content: bytes, ordinal: int) -> Outgoing:
        row_id = name_row(row, content, ordinal, False)
        fields = {
            name: None if value is None else value.decode("utf-8", "replace")
            for name, value in zip(row._fields[2:], row[2:], strict=True)
        }
        letter = DeadLetter(
            row_id=row_id,
            step="poll",
            reason="no-time",
            error=f"the row of {self._source} has no time; give it one, and it is published",
            failed_at=datetime.now(UTC),
            payload=orjson.dumps(fields)[:900_000],
        )
        value, headers = encode_dead_letter(letter)
        headers.append((TRACEPARENT, traceparent_of(row_id, b"")))
        return Outgoing(self._topic, partition_of(text, self._partitions), row_id.encode(), value, headers)
