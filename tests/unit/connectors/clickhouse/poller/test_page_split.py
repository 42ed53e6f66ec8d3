"""Where a page is split whose rows are masked: by rows and by the size of their texts."""

from __future__ import annotations

from connectors.clickhouse.poller.page_split import split
from connectors.clickhouse.poller.published_rows import Published
from connectors.clickhouse.source.table import SourceRow


def rows(*sizes: int) -> list[SourceRow]:
    return [
        SourceRow(at, b"", str(at).encode(), b"x" * size, None, None, None) for at, size in enumerate(sizes)
    ]


def test_a_page_of_long_texts_is_split_by_their_size() -> None:
    page = rows(10, 10, 10, 300, 10)
    parts = []
    rest = page
    while rest:
        part, left = split(rest, 4, Published(), most_bytes=25)
        parts.append(len(part))
        assert left is None or isinstance(left, list)
        rest = left or []
    assert parts == [2, 1, 1, 1]
    assert split(page, 5, Published()) == (page, None)
    assert split(page, 5, Published(), most_bytes=340) == (page, None)
