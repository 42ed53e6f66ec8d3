import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.clickhouse.sink.stored_offsets import OffsetSet


@given(st.sets(st.integers(0, 60)), st.sets(st.integers(0, 60)))
def test_holds_exactly_what_was_put_in(first: set[int], second: set[int]) -> None:
    both = OffsetSet.of(first) | OffsetSet.of(second)
    assert {offset for offset in range(-1, 62) if offset in both} == first | second
    assert len(both) == len(first | second)


def test_neighbours_cost_one_range() -> None:
    assert list(OffsetSet([(5, 10), (0, 5), (8, 12), (20, 21)])) == [(0, 12), (20, 21)]


def test_empty_ranges_hold_nothing() -> None:
    offsets = OffsetSet([(3, 3)])
    assert len(offsets) == 0
    assert 3 not in offsets


@pytest.mark.parametrize("offset", [0, 10**12])
def test_single_offsets(offset: int) -> None:
    assert offset in OffsetSet.of([offset])
    assert offset + 1 not in OffsetSet.of([offset])
