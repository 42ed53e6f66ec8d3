"""What is told of a group is of all rows, not of the sample."""

from __future__ import annotations

from connectors.clickhouse.queries.watching.recent_texts import RecentText, RecentTexts
from streams.quality.discovery.discover import told_of
from streams.quality.discovery.groups import TextGroup


def test_the_rows_of_a_group_are_estimated_by_the_share_of_each_kind_in_the_sample() -> None:
    texts = [
        RecentText("a", "other", 0.3, "1", 2, 1, doubtful=True),
        RecentText("b", "delivery", 0.9, "2", 3, 0, doubtful=False),
    ]
    found = RecentTexts(texts, 100, 40, 0, 1, 2, share=0.5, share_of_others=0.1)
    told = told_of(TextGroup([0, 1], 5, 1, 1.0), found)
    assert (told["size"], told["before"], told["growth"]) == (2 * 2 + 3 * 10, 2, 17.0)
