"""Bounds on a time column: exactly the rows whose microseconds are in them, whatever the type."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from connectors.clickhouse.source.times import DAY, TimeColumn

TYPES = [
    "Date",
    "Date32",
    "DateTime",
    "DateTime('Asia/Tokyo')",
    *(f"DateTime64({scale}, 'Europe/Berlin')" for scale in range(10)),
]
# Times that lie on, beside and far beyond what the types hold.
MICROS = st.one_of(
    st.integers(-(10**18), 10**18),
    st.integers(-5_000_000, 5_000_000),
    st.builds(lambda days, beside: days * DAY + beside, st.integers(-800_000, 3_000_000), st.integers(-1, 1)),
)


def column(declared: str) -> TimeColumn:
    made = TimeColumn.of("`t`", declared)
    assert made is not None
    return made


def micros(time: TimeColumn, value: int) -> int:
    """What `micros` makes of a value of the column."""
    return max(time.least, min(value, time.most)) * time.tick // time.per_micro


def holds(conditions: list[str], parameters: dict[str, int], value: int) -> bool:
    """Whether a row with that value is found."""
    found = True
    for condition in conditions:
        if condition == "0":
            return False
        if " IS NOT NULL" in condition:
            continue
        match = re.search(r" (>=|<=|<) .*\{(since|until):", condition)
        assert match is not None, condition
        operator, bound = match.group(1), parameters[match.group(2)]
        found &= {">=": value >= bound, "<=": value <= bound, "<": value < bound}[operator]
    return found


@pytest.mark.parametrize("declared", TYPES)
@given(data=st.data(), since=st.none() | MICROS, until=st.none() | MICROS)
def test_bounds_hold_for_exactly_the_rows_between_them(
    declared: str, data: st.DataObject, since: int | None, until: int | None
) -> None:
    time = column(declared)
    first, end = {"UInt16": (0, 2**16), "UInt32": (0, 2**32), "Int32": (-(2**31), 2**31)}.get(
        time.storage, (-(2**63), 2**63)
    )
    near = [one for bound in (since, until) if bound is not None for one in (time._ticks(bound),)]
    values = st.integers(first, end - 1)
    for one in near:
        values |= st.integers(max(first, min(one - 1, end - 1)), max(first, min(one + 1, end - 1)))
    value = data.draw(values)
    there = micros(time, value)
    wanted = (since is None or there >= since) and (until is None or there < until)
    assert holds(*time.bounds(since, until), value) == wanted


@given(st.integers(-(2**63), 2**63 - 1))
@example(-1)
@example(-(2**63))
def test_parts_of_a_microsecond_are_rounded_down(value: int) -> None:
    time = column("DateTime64(9)")
    assert micros(time, value) == max(value, time.least) // 1000


@pytest.mark.parametrize(
    ("declared", "nullable", "type_"),
    [
        ("Nullable(DateTime64(3, 'Asia/Tokyo'))", True, "DateTime64(3, 'UTC')"),
        ("LowCardinality(Nullable(Date))", True, "Date"),
        ("LowCardinality(DateTime)", False, "DateTime('UTC')"),
        ("SimpleAggregateFunction(max, DateTime)", False, "DateTime('UTC')"),
        ("DateTime64", False, "DateTime64(3, 'UTC')"),
    ],
)
def test_types_are_unwrapped(declared: str, nullable: bool, type_: str) -> None:
    time = column(declared)
    assert (time.nullable, time.type) == (nullable, type_)


@pytest.mark.parametrize(
    "declared",
    ["String", "UInt32", "Int64", "Nullable(UInt64)", "Time", "Time64(3)", "Array(DateTime)", "Dates"],
)
def test_other_types_hold_no_times(declared: str) -> None:
    assert TimeColumn.of("`t`", declared) is None


def test_no_condition_asks_for_a_time_zone() -> None:
    for declared in TYPES:
        sql = " ".join([column(declared).micros, *column(declared).bounds(0, 10**15)[0]])
        assert "Berlin" not in sql
        assert "Tokyo" not in sql
        assert not re.search(r"toDateTime|now|today|parse", sql)
