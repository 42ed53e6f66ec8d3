"""How many texts one query may ask for."""

from __future__ import annotations

import itertools

from clickhouse_connect.driver.binding import format_bind_value
from hypothesis import given
from hypothesis import strategies as st

from connectors.clickhouse.client.sql import MOST_BOUND_BYTES, bound_batches

ODD = st.text(st.sampled_from("aя'\\\n\t`😀"), max_size=20_000)


@given(st.lists(ODD | st.integers(0, 10_000).map(lambda size: "x'" * size), max_size=60))
def test_each_batch_fits_into_a_parameter_and_none_is_left_out(texts: list[str]) -> None:
    batches = list(bound_batches(texts, str))
    assert list(itertools.chain(*batches)) == texts
    for batch in batches:
        assert len(format_bind_value(batch).encode()) <= MOST_BOUND_BYTES
        assert len(format_bind_value([-(2**63)] * len(batch))) <= MOST_BOUND_BYTES


def test_uuids_go_by_the_thousand_and_what_fits_nowhere_is_left_out() -> None:
    uuids = [f"{number:036}" for number in range(7_000)]
    assert 5 <= len(list(bound_batches(uuids, str))) <= 7
    assert list(bound_batches(["a", "x" * MOST_BOUND_BYTES, "b"], str)) == [["a", "b"]]
    assert list(bound_batches([], str)) == []
