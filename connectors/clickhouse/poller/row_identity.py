"""The identity of rows: the plain id if there is one, otherwise a digest."""

from __future__ import annotations

from hashlib import sha256
from typing import NamedTuple

from connectors.clickhouse.source.table import SourceRow

# Sent with each published row, so that a later poller recognises its source row without the source.
CONTENT = "source-row"


class Mark(NamedTuple):
    """What is remembered of a source row: its time (microseconds since 1970) and 64 bits each of its content
    and of its plain id (0 without one).
    """

    micros: int
    content: int
    id: int

    def header(self) -> bytes:
        """For the header `CONTENT`."""
        return b"%d/%016x/%016x" % (self.micros, self.content, self.id)

    @classmethod
    def parse(cls, header: bytes | None) -> Mark | None:
        """The inverse; None if it is no such header."""
        try:
            micros, content, id_ = (header or b"").split(b"/")
            return cls(int(micros), int(content, 16), int(id_, 16))
        except ValueError:
            return None


def content_of(row: SourceRow) -> bytes:
    """A digest, 16 bytes, of everything that distinguishes two rows of the source.

    SHA-256 here, as everywhere for rows, because ClickHouse has it too (`message_sql.py`).
    """
    id_, user, text = row.id or b"", row.user or b"", row.text or b""
    lengths = b"%d/%d/%d/" % (len(id_), row.micros, len(user))
    return sha256(b"".join((lengths, id_, user, text))).digest()[:16]


def mark_of(row: SourceRow, content: bytes) -> Mark:
    """What to remember of a row."""
    return Mark(row.micros, int.from_bytes(content[:8], "big"), short_id(row.id) if row.id else 0)


def short_id(plain: bytes) -> int:
    """64 bits of a plain id; never 0."""
    return int.from_bytes(sha256(plain).digest()[:8], "big") or 1


def name_row(row: SourceRow, content: bytes, ordinal: int, taken: bool) -> str:
    """The row id: `<id>`; `<id>~<digest>` if another row stands under it; `~<n>` for the n-th equal one.
    Without an id `<digest>:<n>`. An id that is no text is named by its bytes, `0x<hex>`."""
    if not row.id:
        return f"{content.hex()}:{ordinal}"
    try:
        plain = row.id.decode()
    except UnicodeDecodeError:
        plain = f"0x{row.id.hex()}"  # with replacements two ids could become one
    if ordinal > 1:
        return f"{plain}~{content.hex()[:8]}~{ordinal}"
    return f"{plain}~{content.hex()[:8]}" if taken else plain
