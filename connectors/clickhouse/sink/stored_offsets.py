"""Which offsets of a partition a table already holds: an exact set, kept as ranges.

A largest offset is not enough. An insert may be half stored, and what was dead-lettered leaves gaps.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from uuid import UUID

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import qualified
from connectors.clickhouse.schema.projections import IN_RUN, RUN, RUN_OF

# So many ranges of offsets in one query.
_RANGES = 200


class OffsetSet:
    """A set of offsets. Runs of neighbours cost two numbers, however long."""

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        """``ranges``: first offset and the one after the last, in any order, overlapping or not."""
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in sorted(ranges):
            if self._ends and start <= self._ends[-1]:
                self._ends[-1] = max(self._ends[-1], end)
            elif start < end:
                self._starts.append(start)
                self._ends.append(end)

    @classmethod
    def of(cls, offsets: Iterable[int]) -> OffsetSet:
        """The set of ``offsets``."""
        return cls((offset, offset + 1) for offset in offsets)

    @property
    def end(self) -> int:
        """The offset after the largest; 0 for none."""
        return self._ends[-1] if self._ends else 0

    def __contains__(self, offset: int) -> bool:
        at = bisect_right(self._starts, offset) - 1
        return at >= 0 and offset < self._ends[at]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The ranges, in order."""
        return iter(zip(self._starts, self._ends, strict=True))

    def __len__(self) -> int:
        return sum(self._ends) - sum(self._starts)

    def since(self, offset: int) -> OffsetSet:
        """Those from ``offset`` on."""
        return OffsetSet((max(start, offset), end) for start, end in self if end > offset)

    def __or__(self, other: OffsetSet) -> OffsetSet:
        return OffsetSet([*self, *other])


async def stored_offsets(
    client: ClickHouseClient,
    database: str,
    table: str,
    topic_id: UUID,
    spans: Mapping[int, tuple[int, int]],
    *,
    settings: str = "",
) -> dict[int, OffsetSet]:
    """What ``table`` holds of one incarnation of a topic.

    ``spans``: for each partition asked for, the first offset of interest and the one after the last.
    ``settings``: the SETTINGS of the queries. The server has the ranges in a projection: a group rewound by
    millions of rows costs a few numbers.

    Raises:
        UnavailableError, ConfigurationError: as the client.
    """
    if not spans:
        return {}
    wanted = " OR ".join(
        f"(_partition = {int(partition)} AND {RUN_OF} >= {int(start) // RUN} "
        f"AND {RUN_OF} <= {int(end) // RUN})"
        for partition, (start, end) in spans.items()
    )
    found: dict[int, list[tuple[int, int]]] = {partition: [] for partition in spans}
    gaps: dict[int, list[tuple[int, int]]] = {}
    # As the projections `label_places` and `stored_places` have it. Nothing in between is missing where as
    # many different offsets are stored as lie between the first and the last.
    for partition, first, last, count in await client.rows(
        f"SELECT _partition, min(_offset), max(_offset), {IN_RUN}\nFROM {qualified(database, table)}\n"
        f"WHERE _topic_id = {{id:UUID}} AND ({wanted})\nGROUP BY _topic_id, _partition, {RUN_OF}{settings}",
        {"id": str(topic_id)},
    ):
        whole = int(last) - int(first) + 1 == int(count)
        (found if whole else gaps).setdefault(int(partition), []).append((int(first), int(last) + 1))
    for some in _in_pieces(gaps):
        for partition, start, last in await client.rows(
            _runs(database, table, some) + settings, {"id": str(topic_id)}
        ):
            found[int(partition)].append((int(start), int(last) + 1))
    return {
        partition: OffsetSet(
            (max(first, start), min(last, end))
            for first, last in found[partition]
            if first < end and last > start
        )
        for partition, (start, end) in spans.items()
    }


def _in_pieces(gaps: Mapping[int, list[tuple[int, int]]]) -> Iterator[list[tuple[int, int, int]]]:
    """Ranges as (partition, first offset, the one after the last): some for each query."""
    ranges = [(partition, *one) for partition, several in gaps.items() for one in OffsetSet(several)]
    for start in range(0, len(ranges), _RANGES):
        yield ranges[start : start + _RANGES]


def _runs(database: str, table: str, ranges: Iterable[tuple[int, int, int]]) -> str:
    """The query for the first and the last offset of each run of neighbours within ``ranges``."""
    wanted = " OR ".join(
        f"(_partition = {partition} AND _offset >= {start} AND _offset < {end})"
        for partition, start, end in ranges
    )
    return (
        "SELECT _partition, min(_offset), max(_offset) FROM (\n"
        "    SELECT _partition, _offset,\n"
        "        _offset - row_number() OVER (PARTITION BY _partition ORDER BY _offset) AS run\n"
        "    FROM (\n"
        f"        SELECT DISTINCT _partition, _offset FROM {qualified(database, table)}\n"
        f"        WHERE _topic_id = {{id:UUID}} AND ({wanted})\n"
        "    )\n"
        ") GROUP BY _partition, run"
    )
