"""How long rows take from their own time to the table, counted a batch at a time."""

from __future__ import annotations

import time

import pyarrow as pa

from connectors.clickhouse.schema.tables import AUGMENTED, LABELED
from connectors.clickhouse.sink.batch import Batch
from streams.core.codec import RECOVERED, REPLAY_JOB, RETRY_OF
from streams.core.records import Record
from streams.observability.metrics import CREATED_TO_AUGMENTED_STORED, CREATED_TO_STORED, Histogram

_AGAIN = (REPLAY_JOB, RETRY_OF, RECOVERED)


class StoringTime:
    """Give `observe` to the sink. Replays are left out: their rows are old."""

    def __init__(self, histogram: Histogram) -> None:
        self._series = {
            LABELED: histogram.series(CREATED_TO_STORED),
            AUGMENTED: histogram.series(CREATED_TO_AUGMENTED_STORED),
        }

    def observe(self, table: str, batch: Batch) -> None:
        """Count the rows of a batch that was inserted just now."""
        series = self._series.get(table)
        live = batch.where(_is_live)
        if series is None or not len(live):
            return
        created = live.rows["created_at"].cast(pa.int64())  # microseconds
        series.observe_all(time.time() - created.to_numpy() / 1e6)


def _is_live(record: Record) -> bool:
    # What a replay brought says so behind all other headers: one look is a fifth as dear as a search.
    return not record.headers or record.headers[-1][0] not in _AGAIN
