"""The ways in which labelstream reads a source table; each gives text and time of every row that it finds."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from pathlib import Path

import orjson

from connectors.clickhouse import ClickHouseConfig, ClickHouseConnector
from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.poller.backfill import OldRows
from connectors.clickhouse.poller.bulk_page import BulkPage
from connectors.clickhouse.poller.bulk_source import BulkSource
from connectors.clickhouse.poller.settled_rows import PassingRows
from connectors.clickhouse.source.table import SourceRow
from streams.core.settings import Settings
from streams.core.times import micros_of
from tests.unit.connectors.clickhouse.poller.fakes import TOPICS, FakeKafka, make_poller

Seen = Counter[tuple[str, int]]
_AFTER_ALL = 10**18  # beyond the year 9999


class Reading:
    """One table, one session's zone."""

    def __init__(
        self, client: ClickHouseClient, settings: Settings, zone: str | None, chance: random.Random
    ) -> None:
        self.client = client
        self.settings = settings
        self._zone = zone
        self._chance = chance
        self.ids: Counter[str] = Counter()

    async def pages(self) -> Seen:
        """The poller's pages, in two or three spans of time that meet."""
        source = BulkSource(self.client, self.settings)
        return await self._spans(source.pages)

    async def bulk(self) -> Seen:
        """Its pages of many rows."""
        source = BulkSource(self.client, self.settings)
        return await self._spans(source.bulk)

    async def counts(self) -> int:
        """How many rows a backfill and the poller's comparison count."""
        source = BulkSource(self.client, self.settings)
        total = await source.count(None, None)
        seconds = await source.counts(-_AFTER_ALL, _AFTER_ALL)
        assert sum(seconds.values()) == total
        return total

    async def backfill(self) -> Seen:
        """Old rows, named as the poller names them."""
        old = OldRows(self.client, self.settings, TOPICS, since=None, until=_AFTER_ALL)
        seen: Seen = Counter()
        async for rows, letters, _ in old.pages(None, PassingRows()):
            assert not letters
            for row, *_ in rows:
                seen[row.text, micros_of(row.created_at)] += 1
                self.ids[row.row_id] += 1
        return seen

    async def poller(self) -> Seen:
        """The whole poller, to a Kafka in memory."""
        kafka, ending = FakeKafka(), asyncio.Event()
        source = BulkSource(self.client, self.settings)
        poller = make_poller(source, kafka, ending, poll_interval_seconds=0.01)
        task = asyncio.create_task(poller.run())
        while poller.counts["polls"] < 3 and not task.done():
            await asyncio.sleep(0.01)
        ending.set()
        await task
        assert poller.problem == ""
        seen: Seen = Counter()
        for record in kafka.rows():
            message = orjson.loads(record.value or b"")
            seen[message["text"], _micros(message["created_at"])] += 1
        return seen

    async def fetch(self) -> Seen:
        """The connector as a library."""
        return await asyncio.to_thread(self._fetch)

    async def export(self, folder: Path) -> Seen:
        """The same to a file."""
        return await asyncio.to_thread(self._export, folder)

    def _connector(self) -> ClickHouseConnector:
        connector = ClickHouseConnector(ClickHouseConfig.from_settings(self.settings))
        in_zone(connector._client, self._zone)
        return connector

    def _fetch(self) -> Seen:
        with self._connector() as connector:
            frame = connector.fetch_logs(days=100_000)
        micros = frame["ts"].dt.tz_localize(None).to_numpy("datetime64[us]").astype("int64").tolist()
        return Counter(zip(frame["text"], micros, strict=True))

    def _export(self, folder: Path) -> Seen:
        with self._connector() as connector:
            connector.export_to_file(folder / "rows.jsonl", days=100_000, format="jsonl")
        lines = (folder / "rows.jsonl").read_bytes().splitlines()
        return Counter((row["text"], _micros(row["ts"])) for row in map(orjson.loads, lines))

    async def _spans(self, read: Callable[..., AsyncIterator[BulkPage | list[SourceRow]]]) -> Seen:
        cuts = sorted(self._chance.sample(_CUTS, self._chance.choice((0, 1, 2))))
        seen: Seen = Counter()
        for begin, end in zip([None, *cuts], [*cuts, None], strict=True):
            async for page in read(begin, end):
                rows = page.rows(page.micros > -_AFTER_ALL) if isinstance(page, BulkPage) else page
                seen.update(((row.text or b"").rstrip(b"\0").decode(), row.micros) for row in rows)
        return seen

    def readers(self, folder: Path) -> dict[str, Callable[[], Awaitable[Seen]]]:
        """Each way by its name."""
        return {
            "pages": self.pages,
            "bulk": self.bulk,
            "backfill": self.backfill,
            "poller": self.poller,
            "fetch": self.fetch,
            "export": lambda: self.export(folder),
        }


_CUTS = [
    0, 1, -1, 1_774_746_000_000_000, 1_774_746_000_000_001, 1_774_746_000_500_000, 1_774_656_000_000_000,
    4_294_967_296_000_000, 4_294_967_295_000_001, 10_413_792_000_000_000, -2_208_988_800_000_000,
]  # fmt: skip


def in_zone(client: ClickHouseClient, zone: str | None) -> None:
    """Each query of ``client`` in a session of that time zone."""
    if zone is not None:
        client.call(lambda driver: driver.set_client_setting("session_timezone", zone))


def _micros(text: str) -> int:
    return micros_of(datetime.fromisoformat(text))
