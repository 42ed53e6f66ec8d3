"""Which rows of a source a replay takes."""

from __future__ import annotations

from streams.jobs.sources import Item, in_sample


def test_a_sample_is_about_its_share_and_the_same_each_time() -> None:
    items = [Item(str(n), b"t", 0, "x", 0, b"") for n in range(5000)]
    chosen = [item for item in items if in_sample(0.2)(item)]
    assert 850 < len(chosen) < 1150
    assert chosen == [item for item in items if in_sample(0.2)(item)]
    assert set(chosen) < {item for item in items if in_sample(0.5)(item)}
    assert all(map(in_sample(None), items))
