"""How long rows take to the table: live ones are counted, replayed ones are not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from connectors.clickhouse.schema.tables import DEAD_LETTERS, LABELED
from connectors.clickhouse.sink.batch import to_batch
from connectors.clickhouse.sink.latency import StoringTime
from streams.core.codec import REPLAY_JOB, encode, headers_of
from streams.core.messages import Labeled
from streams.core.records import Record
from streams.observability.metrics import (
    CREATED_TO_AUGMENTED_STORED,
    CREATED_TO_STORED,
    STAGE_LATENCY,
    Histogram,
)


def labeled(offset: int, age: float, *, replayed: bool = False) -> Record:
    now = datetime.now(UTC)
    message = Labeled(
        row_id=str(offset),
        text="t",
        created_at=now - timedelta(seconds=age),
        polled_at=now,
        label="other",
        label_version="v",
        model="m",
        labeled_at=now,
    )
    headers = headers_of(message) + ([(REPLAY_JOB, b"job")] if replayed else [])
    return Record("esk.labeled", 0, offset, 0, b"k", encode(message), tuple(headers))


def test_live_rows_are_counted_by_their_age_and_replayed_ones_are_not() -> None:
    histogram = Histogram(STAGE_LATENCY)
    time = StoringTime(histogram)
    records = [labeled(0, 2.0), labeled(1, 4.0), labeled(2, 500_000.0, replayed=True)]
    batch, refused = to_batch(Labeled, records, UUID(int=1))
    assert refused == []
    time.observe(LABELED, batch)
    series = histogram.series(CREATED_TO_STORED)
    assert sum(series.counts) == 2
    assert 6.0 <= series.total < 400.0  # on however slow a machine
    assert sum(histogram.series(CREATED_TO_AUGMENTED_STORED).counts) == 0


def test_what_has_no_stage_or_no_live_row_is_left_out() -> None:
    histogram = Histogram(STAGE_LATENCY)
    time = StoringTime(histogram)
    batch, _ = to_batch(Labeled, [labeled(0, 9.0, replayed=True)], UUID(int=1))
    time.observe(LABELED, batch)
    time.observe(DEAD_LETTERS, batch)
    assert sum(histogram.series(CREATED_TO_STORED).counts) == 0
