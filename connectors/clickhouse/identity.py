"""Which row is which: the plain id where there is one, a digest where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from connectors.clickhouse.source import SourceRow
from streams.messages import Row


class Published:
    """What has been published of the rows that may be read again, by content.

    A content is everything by which two rows of the source can be told apart. Equal rows are counted:
    the n-th of them is published once. Contents are 16-byte digests, forgotten with the window.
    """

    def __init__(self) -> None:
        self._counts: dict[bytes, int] = {}
        self._ids: dict[bytes, int] = {}  # digest of a published id -> how many rows stand under it
        self._order: dict[bytes, tuple[int, bytes | None]] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def count(self, content: bytes) -> int:
        """How many equal rows were published or skipped."""
        return self._counts.get(content, 0)

    def id_taken(self, row_id: str) -> bool:
        """Whether a row stands under this id already."""
        return _digest(row_id) in self._ids

    def add(self, content: bytes, nanos: int, plain_id: str | None, ordinal: int) -> None:
        """The ``ordinal``-th of the equal rows is settled."""
        self._counts[content] = max(self._counts.get(content, 0), ordinal)
        mark = _digest(plain_id) if plain_id is not None else None
        if mark is not None and content not in self._order:
            self._ids[mark] = self._ids.get(mark, 0) + 1
        self._order.setdefault(content, (nanos, mark))

    def forget_before(self, nanos: int) -> None:
        """Rows older than this are not read again."""
        for content in [content for content, (at, _) in self._order.items() if at < nanos]:
            _, mark = self._order.pop(content)
            del self._counts[content]
            if mark is not None:
                self._ids[mark] -= 1
                if not self._ids[mark]:
                    del self._ids[mark]


def content_of(row: SourceRow, cleaned: str) -> bytes:
    """The content of a source row. Where it has an id, only what a published message also tells."""
    if row.id:
        return _digest("id", row.id, str(row.nanos // 1000), row.user or "", cleaned)
    return blake2b(
        _joined(
            [b"raw", str(row.nanos).encode(), (row.user or "").encode("utf-8", "replace"), row.text or b""]
        ),
        digest_size=16,
    ).digest()


def content_of_message(message: Row) -> tuple[bytes, str | None, int]:
    """Content, plain id and ordinal of a published message: the inverse of `name_row`."""
    if ":" in message.row_id:
        digest, _, ordinal = message.row_id.partition(":")
        if len(digest) == 32 and ordinal.isdigit():
            try:
                return bytes.fromhex(digest), None, int(ordinal)
            except ValueError:
                pass
    plain, *suffixes = message.row_id.split("~")
    micros = round(message.created_at.timestamp() * 1_000_000)
    ordinal_of = int(suffixes[1]) if len(suffixes) > 1 and suffixes[1].isdigit() else 1
    return (
        _digest("id", plain, str(micros), message.user_id or "", message.text),
        plain,
        ordinal_of,
    )


def name_row(row: SourceRow, content: bytes, ordinal: int, taken: bool) -> str:
    """The row id: `<id>`; `<id>~<digest>` if another row stands under it; `~<n>` for the n-th equal one.
    Without an id `<digest>:<n>`."""
    if not row.id:
        return f"{content.hex()}:{ordinal}"
    if ordinal > 1:
        return f"{row.id}~{content.hex()[:8]}~{ordinal}"
    return f"{row.id}~{content.hex()[:8]}" if taken else row.id


def _digest(*parts: str) -> bytes:
    return blake2b(_joined([part.encode("utf-8", "replace") for part in parts]), digest_size=16).digest()


def _joined(parts: Sequence[bytes]) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
