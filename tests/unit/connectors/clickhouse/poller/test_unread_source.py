"""Why nothing comes of a table that holds rows."""

from __future__ import annotations

from collections import Counter

import pytest

from connectors.clickhouse.poller import unread_source
from connectors.clickhouse.poller.unread_source import UnreadSource
from streams.core.errors import ConfigurationError


class Source:
    def __init__(self) -> None:
        self.why: ConfigurationError | None = None
        self.asked = 0

    async def why_nothing(self, since: int | None) -> ConfigurationError | None:
        self.asked += 1
        return self.why


async def test_a_table_that_gives_nothing_is_asked_why_and_said_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, counts = Source(), Counter({"read": 5, "published": 5})  # of an earlier time of ownership
    quiet = UnreadSource(source, counts, 0)
    await quiet.check(None)
    assert quiet.problem == ""
    source.why = ConfigurationError(
        "no row has a time", setting="CLICKHOUSE_TIMESTAMP_COLUMN", fix="name one"
    )
    await quiet.check(None)
    assert source.asked == 1  # not at each poll
    monkeypatch.setattr(unread_source, "_EACH_SECONDS", 0.0)
    for _ in range(3):
        await quiet.check(None)
    assert quiet.problem == "no row has a time"
    assert capsys.readouterr().out.count("CLICKHOUSE_TIMESTAMP_COLUMN") == 1
    counts["read"] += 1
    counts["published"] += 1
    await quiet.check(None)
    assert quiet.problem == ""


async def test_a_column_of_texts_that_are_all_left_out_is_named() -> None:
    counts: Counter[str] = Counter()
    quiet = UnreadSource(Source(), counts, 0)
    counts.update({"read": 30, "skipped:too-short": 10, "skipped:null-text": 5})
    await quiet.check(None)
    assert quiet.problem == "all rows that were read are left out: null-text 5, too-short 10"
    counts["published"] += 1
    await quiet.check(None)
    assert quiet.problem == ""


@pytest.mark.parametrize(
    ("remembered", "counted"),
    [(1, {"skipped:too-short": 3}), (0, {"skipped:x": 1, "dead_letters:too-large": 1})],
)
async def test_a_table_whose_last_rows_are_short_is_no_riddle(
    remembered: int, counted: dict[str, int]
) -> None:
    counts: Counter[str] = Counter()
    quiet = UnreadSource(Source(), counts, remembered)
    counts.update({"read": 3, **counted})
    await quiet.check(None)
    assert quiet.problem == ""


async def test_older_rows_that_nobody_asked_for_are_no_trouble(capsys: pytest.CaptureFixture[str]) -> None:
    source = Source()
    source.why = ConfigurationError("each of the 5 rows is older", setting="POLL_START", fix="wait")
    quiet = UnreadSource(source, Counter(), 0)
    await quiet.check(1)
    assert quiet.problem == ""
    assert "each of the 5 rows is older" in capsys.readouterr().out
