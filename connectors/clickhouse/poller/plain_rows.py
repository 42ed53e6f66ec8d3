"""Makes the messages of plain rows at a third of the cost, with the same bytes.

The results of `Row`, `encode` and `headers_of` are built from parts, for rows that need no further check:
with an id of their own, a clean text, and a valid time. A test compares both ways.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

import orjson

from connectors.clickhouse.poller.row_identity import CONTENT, Mark, name_row
from connectors.clickhouse.source.table import SourceRow
from streams.core.codec import CREATED_AT, MESSAGE_TYPE, SCHEMA_VERSION
from streams.core.context import TRACEPARENT, traceparent_of
from streams.core.messages import Row
from streams.core.records import Outgoing
from streams.core.text import is_plain
from streams.core.topics import VALUE_BYTES, partition_of

_SECOND = 1_000_000
_LAST_SECOND = 253_402_300_800  # the year 10000
KIND = (MESSAGE_TYPE, Row.message_type.encode()), (SCHEMA_VERSION, Row.schema_version.encode())


class QuickRows:
    """Makes the messages of plain rows."""

    def __init__(self, topic: str, partitions: int, least_bytes: int) -> None:
        """``least_bytes`` as in `why_skipped`."""
        self._topic = topic
        self._partitions = partitions
        self._least_bytes = least_bytes

    def outgoing(self, row: SourceRow, content: bytes, mark: Mark, polled_at: datetime) -> Outgoing | None:
        """The message of a row that shares its id and content with no other one; None if it is not plain."""
        micros, _, _, raw, user, session, domain = row
        if raw is None or len(raw) <= self._least_bytes or micros < 0:
            return None
        text = raw.decode("utf-8", "replace")
        second, part = divmod(micros, _SECOND)
        if second >= _LAST_SECOND or not is_plain(text):
            return None
        at = f"{_second(second)}.{part:06d}" if part else _second(second)
        row_id = name_row(row, content, 1, False)
        value = orjson.dumps(
            {
                "row_id": row_id,
                "text": text,
                "created_at": at + "Z",
                "user_id": None if user is None else user.decode("utf-8", "replace"),
                "session_id": None if session is None else session.decode("utf-8", "replace"),
                "source_domain": None if domain is None else domain.decode("utf-8", "replace"),
                "polled_at": polled_at,
            },
            option=orjson.OPT_UTC_Z,
        )
        if len(value) > VALUE_BYTES:
            return None
        created_at = f"{at}+00:00".encode()
        trace = traceparent_of(row_id, created_at)
        headers = [*KIND, (CREATED_AT, created_at), (TRACEPARENT, trace), (CONTENT, mark.header())]
        return Outgoing(self._topic, partition_of(text, self._partitions), row_id.encode(), value, headers)


@lru_cache(maxsize=4096)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).replace(tzinfo=None).isoformat()
