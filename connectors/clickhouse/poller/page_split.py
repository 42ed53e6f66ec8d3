"""Splits a page if only some of its new rows may be published now."""

from __future__ import annotations

from itertools import accumulate, takewhile
from typing import TypeAlias

import numpy as np

from connectors.clickhouse.poller.bulk_page import BulkPage
from connectors.clickhouse.poller.published_rows import Published
from connectors.clickhouse.source.table import SourceRow

Page: TypeAlias = BulkPage | list[SourceRow]


def split(
    page: Page, most: int, published: Published, *, most_bytes: int | None = None
) -> tuple[Page, Page | None]:
    """The older part of ``page``, with about ``most`` rows that may be new, and the rest.

    ``most_bytes``: about how many bytes of texts, of rows that ClickHouse made no messages of.

    Rows that may be equal are never split: which of them is new is known by their number.
    """
    if most_bytes is not None and not isinstance(page, BulkPage):
        reached = accumulate(len(row.text or b"") for row in page)
        most = min(most, max(1, sum(1 for _ in takewhile(lambda size: size <= most_bytes, reached))))
    if len(page) <= most:
        return page, None
    return _split_bulk(page, most, published) if isinstance(page, BulkPage) else _split_rows(page, most)


def _split_bulk(page: BulkPage, most: int, published: Published) -> tuple[BulkPage, BulkPage | None]:
    ready, look = page.sorted_out(published)
    times = page.micros[ready | look]
    if len(times) <= most:
        return page, None
    older = page.micros <= np.partition(times, most - 1)[most - 1]
    return page.only(older), None if older.all() else page.only(~older)


def _split_rows(page: list[SourceRow], most: int) -> tuple[list[SourceRow], list[SourceRow] | None]:
    end = most
    while end < len(page) and page[end][:2] == page[end - 1][:2]:
        end += 1
    return page[:end], page[end:] or None
