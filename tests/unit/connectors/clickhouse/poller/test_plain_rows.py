"""The short way for plain rows makes the bytes, keys, partitions and headers that the long way makes."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from connectors.clickhouse.poller.plain_rows import QuickRows
from connectors.clickhouse.poller.publisher import Publisher
from connectors.clickhouse.source.table import SourceRow
from streams.core.records import Outgoing
from streams.core.topics import Topics

_POLLED = re.compile(rb'"polled_at":"[^"]+"')
_NEVER: Any = None  # nothing is sent here

BYTES = st.one_of(st.none(), st.binary(max_size=12), st.text(max_size=12).map(str.encode))
TEXTS = st.one_of(
    st.none(),
    st.text(alphabet="где мой ЗАКАЗ ёЁ«»—0123?!az", max_size=40).map(str.encode),
    st.text(max_size=20).map(str.encode),
    st.binary(max_size=12),
)
TIMES = st.one_of(
    st.integers(-(10**15), 253_402_300_799_999_999),
    st.integers(0, 4_000_000_000).map(lambda second: second * 1_000_000),
)
# What most rows are, so that the short way is taken often enough.
PLAIN_IDS = st.integers(1, 99).map(lambda number: b"%d" % number)
PLAIN_TEXTS = st.lists(st.sampled_from(["где", "Мой", "заказ", "12-5?", "«ёлка»"]), min_size=1).map(
    lambda words: " ".join(words).encode()
)
ROWS = st.lists(
    st.one_of(
        st.builds(SourceRow, TIMES, st.just(b""), PLAIN_IDS, PLAIN_TEXTS, BYTES, BYTES, BYTES),
        st.builds(SourceRow, TIMES, st.just(b""), BYTES, TEXTS, BYTES, BYTES, BYTES),
    ),
    min_size=1,
    max_size=6,
)


def sent(page: list[SourceRow], *, quick: bool) -> tuple[list[Outgoing], Counter[str]]:
    counts: Counter[str] = Counter()
    publisher = Publisher(
        "db.t", Topics("esk"), partitions=6, least_bytes=3, sender=_NEVER, lease=_NEVER, counts=counts
    )
    if not quick:
        publisher._namer.quick.outgoing = lambda *_: None  # type: ignore[method-assign]
    return [
        one._replace(value=_POLLED.sub(b"", one.value or b""), headers=tuple(one.headers))
        for one, *_ in asyncio.run(publisher.messages_of(publisher.named(page)))
    ], counts


@given(ROWS)
def test_both_ways_make_the_same_messages(page: list[SourceRow]) -> None:
    assert sent(page, quick=True) == sent(page, quick=False)


async def test_the_usual_row_goes_the_short_way() -> None:
    made: list[bool] = []
    plain = QuickRows.outgoing

    class Watched(QuickRows):
        def outgoing(self, *arguments: Any) -> Outgoing | None:
            found = plain(self, *arguments)
            made.append(found is not None)
            return found

    publisher = Publisher(
        "db.t", Topics("esk"), partitions=6, least_bytes=3, sender=_NEVER, lease=_NEVER, counts=Counter()
    )
    publisher._namer.quick = Watched("esk.rows", 6, 3)
    text = "Подскажите, где мой заказ №".encode()
    rows = [
        SourceRow(1_764_000_000_000_000, b"1", b"1", text.replace("№".encode(), b"12"), b"u", None, b"d"),
        SourceRow(1_764_000_000_000_000, b"2", b"2", text, b"u", None, b"d"),  # NFKC makes it No
        SourceRow(1_764_000_000_000_000, b"3", None, b"no id", b"u", None, b"d"),
    ]
    assert len(await publisher.messages_of(publisher.named(rows))) == 3
    assert made == [True, False, True]
