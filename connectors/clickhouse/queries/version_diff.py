"""Two label versions side by side: what changed, by label, by week, and where it tells most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import result_table
from connectors.clickhouse.schema.newest import newness
from connectors.clickhouse.schema.tables import LABELED
from streams.core.errors import RefusedError
from streams.core.settings import Settings
from streams.core.times import moment

EXAMPLES = 20
_SAMPLE, _SPANS = 200_000, 100


@dataclass(frozen=True)
class Changed:
    """A row whose label differs. ``created_at`` in RFC 3339, UTC."""

    row_id: str
    created_at: str
    text: str
    label_a: str
    label_b: str
    confidence_a: float | None
    confidence_b: float | None


@dataclass(frozen=True)
class Group:
    """Rows with one label of A, or of one week (its Monday): how many, and how many agree.

    ``confidence_shift``: mean of B's confidence less A's, where both are told; None where none is.
    """

    name: str
    rows: int
    agree: int
    confidence_shift: float | None


@dataclass(frozen=True)
class Diff:
    """``a`` against ``b``. ``rows`` have a label of both; ``only_a`` and ``only_b`` of one.

    ``sample``: of more than 400,000 labels a part is compared, in a hundred spans of time. All numbers are of
    that part. None if all are compared.
    """

    a: str
    b: str
    rows: int
    agree: int
    only_a: int
    only_b: int
    confidence_a: float | None
    confidence_b: float | None
    matrix: dict[str, dict[str, int]]  # label of A -> label of B -> rows
    by_label: list[Group]
    by_week: list[Group]
    sample: float | None = None
    examples: list[Changed] = field(default_factory=list)
    changed: list[Changed] = field(default_factory=list)

    @property
    def agreement(self) -> float | None:
        """The share of the common rows with the same label; None without any."""
        return self.agree / self.rows if self.rows else None


async def diff_versions(
    client: ClickHouseClient, settings: Settings, a: str, b: str, *, changed: int
) -> Diff:
    """Compare the rows that both versions have labelled. ``changed``: list at most so many changed rows,
    by time.

    Raises:
        RefusedError: a version has no rows.
        UnavailableError, ConfigurationError: as the client.
    """
    given = {"a": a, "b": b}
    counts, sample, share = await _sample(client, settings, given)
    for version in (a, b):
        if version not in counts:
            raise RefusedError(f"there is no row with a label of version {version}", reason="unknown-version")
    pairs = _pairs(result_table(settings, LABELED), sample)
    total = (
        await client.rows(
            f"SELECT countIf(has_a AND has_b), countIf(has_a AND has_b AND a_label = b_label),\n"
            f"    countIf(has_a AND NOT has_b), countIf(has_b AND NOT has_a),\n"
            f"    avgIf(a_conf, has_a AND has_b), avgIf(b_conf, has_a AND has_b)\nFROM ({pairs})",
            given,
        )
    )[0]
    rows, agree, only_a, only_b = (int(number) for number in total[:4])
    both = f"FROM ({pairs}) WHERE has_a AND has_b"
    matrix: dict[str, dict[str, int]] = {}
    for label_a, label_b, count in await client.rows(
        f"SELECT a_label, b_label, count() AS n {both} GROUP BY a_label, b_label ORDER BY a_label, n DESC",
        given,
    ):
        matrix.setdefault(label_a, {})[label_b] = int(count)
    differ = (
        f"SELECT row_id, toUnixTimestamp64Micro(created_at), a_text, a_label, b_label, a_conf, b_conf {both}"
    )
    differ += " AND a_label != b_label"
    examples = await client.rows(
        # Both sure, and of another opinion: that tells most. One of equal texts is enough.
        f"{differ} ORDER BY ifNull(a_conf, 0) + ifNull(b_conf, 0) DESC, created_at, row_id\n"
        f"LIMIT 1 BY a_text LIMIT {EXAMPLES}",
        given,
    )
    listed = (
        await client.rows(f"{differ} ORDER BY created_at, row_id LIMIT {int(changed)}", given)
        if changed
        else []
    )
    return Diff(
        a,
        b,
        rows,
        agree,
        only_a,
        only_b,
        _number(total[4]),
        _number(total[5]),
        matrix,
        await _groups(client, "a_label", both, given),
        await _groups(client, "toString(toMonday(created_at, 'UTC'))", both, given),
        share,
        [_changed(row) for row in examples],
        [_changed(row) for row in listed],
    )


async def _sample(
    client: ClickHouseClient, settings: Settings, given: dict[str, Any]
) -> tuple[dict[str, int], str, float | None]:
    """How many labels each of the two has, a condition for those that are compared, and what part that is."""
    # As the projection `label_counts` has it.
    found = await client.rows(
        "SELECT toString(label_version), count(), toUnixTimestamp64Micro(min(created_at)),\n"
        f"    toUnixTimestamp64Micro(max(created_at)) FROM {result_table(settings, LABELED)}\n"
        "WHERE label_version IN ({a:String}, {b:String}) GROUP BY label_version",
        given,
    )
    counts = {str(version): int(count) for version, count, _, _ in found}
    total = sum(counts.values())
    if total <= 2 * _SAMPLE:
        return counts, "1", None
    # Where both have labels, if there is such a time.
    first, last = max(int(row[2]) for row in found), min(int(row[3]) for row in found)
    if first >= last:
        first, last = min(int(row[2]) for row in found), max(int(row[3]) for row in found)
    step = (last - first) // _SPANS + 1
    length = max(1, step * _SAMPLE // total)
    spans = " OR ".join(
        f"(created_at >= fromUnixTimestamp64Micro({begin}, 'UTC') "
        f"AND created_at < fromUnixTimestamp64Micro({begin + length}, 'UTC'))"
        for begin in range(first, last + 1, step)
    )
    return counts, f"({spans})", length / step


def _pairs(table: str, sample: str) -> str:
    """One line a row, with the newest label of each version; argMax passes over bare nulls."""
    columns = ",\n    ".join(
        f"maxIf(1, label_version = {{{v}:String}}) AS has_{v}, "
        f"argMaxIf(toString(label), newness, label_version = {{{v}:String}}) AS {v}_label, "
        f"tupleElement(argMaxIf(tuple(confidence), newness, label_version = {{{v}:String}}), 1) AS {v}_conf"
        for v in ("a", "b")
    )
    return (
        f"SELECT created_at, row_id, any(text) AS a_text,\n    {columns}\n"
        "FROM (SELECT created_at, row_id, text, label, confidence, label_version, "
        f"{newness('labeled_at')} AS newness\nFROM {table}\n"
        f"WHERE label_version IN ({{a:String}}, {{b:String}}) AND {sample}) GROUP BY created_at, row_id"
    )


async def _groups(client: ClickHouseClient, by: str, both: str, given: dict[str, Any]) -> list[Group]:
    rows = await client.rows(
        f"SELECT {by} AS name, count(), countIf(a_label = b_label), avg(b_conf - a_conf) {both}\n"
        "GROUP BY name ORDER BY name",
        given,
    )
    return [Group(str(name), int(count), int(agree), _number(shift)) for name, count, agree, shift in rows]


def _changed(row: Sequence[Any]) -> Changed:
    row_id, micros, text, label_a, label_b, confidence_a, confidence_b = row
    at = moment(int(micros)).isoformat().replace("+00:00", "Z")
    return Changed(row_id, at, text, label_a, label_b, _number(confidence_a), _number(confidence_b))


def _number(value: Any) -> float | None:
    return None if value is None or value != value else float(value)
