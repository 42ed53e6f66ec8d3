"""A role's lag: number of unfinished messages in its partitions, and the age of the oldest one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping

import structlog
from prometheus_client.metrics_core import Metric

from connectors.kafka.backlog import Backlog, BacklogReader
from streams.core.errors import LabelstreamError
from streams.core.records import Partition
from streams.observability import metrics as m

log = structlog.get_logger()

LOOK_SECONDS = 10.0


class Lags:
    """Measures every ten seconds, beside the work. While Kafka is down the last values stay, and the ages
    grow.
    """

    def __init__(
        self,
        reader: BacklogReader,
        steps: Mapping[str, str],
        positions: Callable[[], Mapping[Partition, int]],
    ) -> None:
        """``steps``: the step that processes each topic. ``positions``: the next offset to process of each
        owned partition.
        """
        self._reader = reader
        self._steps = steps
        self._positions = positions
        self._seen: Mapping[Partition, Backlog] = {}

    async def run(self) -> None:
        """Measure until cancelled."""
        try:
            while True:
                await self.look()
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            await self._reader.close()

    async def look(self) -> None:
        """Measure once."""
        try:
            self._seen = await self._reader.read(self._positions())
        except LabelstreamError as error:
            log.debug("lag_not_read", error=str(error))

    def measure(self) -> Iterable[Metric]:
        """For each topic, summed over the partitions that this process owns."""
        now = time.time()
        messages = {(step, topic): 0.0 for topic, step in self._steps.items()}
        ages = dict(messages)
        for partition, backlog in self._seen.items():
            key = (self._steps[partition.topic], partition.topic)
            messages[key] += backlog.messages
            if backlog.oldest is not None:
                ages[key] = max(ages[key], now - backlog.oldest)
        yield m.LAG_MESSAGES.family(messages)
        yield m.LAG_SECONDS.family(ages)
