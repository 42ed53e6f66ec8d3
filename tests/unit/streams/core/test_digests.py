"""The set of digests is exact, however many they are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.core.digests import Digests

# Zeros at the ends: digests are bytes, not text.
DIGEST = st.one_of(
    st.binary(min_size=16, max_size=16),
    st.lists(st.sampled_from([0, 1]), min_size=16, max_size=16).map(bytes),
)


@given(st.lists(DIGEST, max_size=80), st.lists(DIGEST, max_size=20), st.integers(1, 7))
def test_it_holds_what_was_added_and_nothing_else(
    added: list[bytes], others: list[bytes], unsorted: int
) -> None:
    digests = Digests(unsorted)
    for count, digest in enumerate(added):
        digests.add(digest)
        assert all(one in digests for one in added[: count + 1])
    assert [one in digests for one in others] == [one in added for one in others]


def test_many_take_little_room() -> None:
    digests = Digests()
    for number in range(200_000):
        digests.add(number.to_bytes(16, "big"))
    assert sum(some.nbytes for some in digests._sorted) <= 16 * 200_000
    assert len(digests._sorted) <= 5
    assert all(number.to_bytes(16, "big") in digests for number in range(0, 200_000, 9_999))
