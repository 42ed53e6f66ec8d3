"""Two label versions side by side: what changed, by label, by week, and where it tells most."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import result_table
from connectors.clickhouse.schema.newest import newness
from connectors.clickhouse.schema.tables import LABELED
from streams.core.errors import RefusedError
from streams.core.settings import Settings
from streams.core.times import moment

EXAMPLES = 20
_SAMPLE, _SPANS = 50_000, 16


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

    ``sample``: of more than 200,000 labels a part is compared, in sixteen spans of time. All numbers are of
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


class _Pairs(NamedTuple):
    """Rows of one week that have one label under A and one under B, with sums of what is told."""

    label_a: str
    label_b: str
    week: str
    rows: int
    sum_a: float | None
    told_a: int
    sum_b: float | None
    told_b: int
    sum_shift: float | None
    told_shift: int


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
    # Everything that is counted, in one look at the pairs.
    both: list[_Pairs] = []
    only = {"a": 0, "b": 0}
    for has_a, has_b, *row in await client.rows(
        "SELECT has_a, has_b, a_label, b_label, toString(toMonday(created_at, 'UTC')) AS week, count(),\n"
        "    sum(a_conf), count(a_conf), sum(b_conf), count(b_conf),\n"
        "    sum(b_conf - a_conf), count(b_conf - a_conf)\n"
        f"FROM ({pairs}) GROUP BY has_a, has_b, a_label, b_label, week",
        given,
    ):
        if has_a and has_b:
            both.append(_Pairs(*row))
        else:
            only["a" if has_a else "b"] += int(row[3])
    matrix: dict[str, dict[str, int]] = {}
    for one in sorted(both, key=lambda one: one.label_a):
        of_label = matrix.setdefault(one.label_a, {})
        of_label[one.label_b] = of_label.get(one.label_b, 0) + one.rows
    matrix = {
        label: dict(sorted(others.items(), key=lambda other: -other[1])) for label, others in matrix.items()
    }
    differ = (
        f"SELECT row_id, toUnixTimestamp64Micro(created_at), a_text, a_label, b_label, a_conf, b_conf\n"
        f"FROM ({pairs}) WHERE has_a AND has_b AND a_label != b_label"
    )
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
        sum(one.rows for one in both),
        sum(one.rows for one in both if one.label_a == one.label_b),
        only["a"],
        only["b"],
        _mean((one.sum_a, one.told_a) for one in both),
        _mean((one.sum_b, one.told_b) for one in both),
        matrix,
        _groups(both, lambda one: one.label_a),
        _groups(both, lambda one: one.week),
        share,
        [_changed(row) for row in examples],
        [_changed(row) for row in listed],
    )


async def _sample(
    client: ClickHouseClient, settings: Settings, given: dict[str, Any]
) -> tuple[dict[str, int], str, float | None]:
    """How many labels each of the two has, a condition for those that are compared, and what part that is."""
    # As the projection `label_places` has it.
    found = await client.rows(
        "SELECT toString(label_version), count(), toUnixTimestamp64Micro(min(created_at)),\n"
        f"    toUnixTimestamp64Micro(max(created_at)) FROM {result_table(settings, LABELED)}\n"
        "WHERE label_version IN ({a:String}, {b:String}) GROUP BY label_version",
        given,
    )
    counts = {str(version): int(count) for version, count, _, _ in found}
    total = sum(counts.values())
    if total <= 4 * _SAMPLE:
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


def _groups(both: Sequence[_Pairs], name_of: Callable[[_Pairs], str]) -> list[Group]:
    named: dict[str, list[_Pairs]] = {}
    for one in both:
        named.setdefault(name_of(one), []).append(one)
    return [
        Group(
            name,
            sum(one.rows for one in some),
            sum(one.rows for one in some if one.label_a == one.label_b),
            _mean((one.sum_shift, one.told_shift) for one in some),
        )
        for name, some in sorted(named.items())
    ]


def _mean(parts: Iterable[tuple[float | None, int]]) -> float | None:
    """From sums and how many each is of; None of none."""
    told = [(total, count) for total, count in parts if total is not None and count]
    return sum(total for total, _ in told) / sum(count for _, count in told) if told else None


def _changed(row: Sequence[Any]) -> Changed:
    row_id, micros, text, label_a, label_b, confidence_a, confidence_b = row
    at = moment(int(micros)).isoformat().replace("+00:00", "Z")
    return Changed(row_id, at, text, label_a, label_b, _number(confidence_a), _number(confidence_b))


def _number(value: Any) -> float | None:
    return None if value is None or value != value else float(value)
