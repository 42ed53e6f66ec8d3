"""What the tests of ClickHouse need: databases on the real engine, a sink into one, a bad line to it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.erasure.erased_list import Erased, nothing_erased
from connectors.clickhouse.schema.database import create_tables
from connectors.clickhouse.sink.lost_messages import Report, no_report
from connectors.clickhouse.sink.sink import Sink
from streams.core.settings import Settings
from tests.stack import fresh_name
from tests.unit.connectors.clickhouse.sink.fakes import TOPICS, FakeInput, FakeKafka, FakeLease
from tests.waiting import PATIENCE, eventually

Address = tuple[str, int]
Database = tuple[ClickHouseClient, Settings]


@contextlib.asynccontextmanager
async def fresh_database(address: Address) -> AsyncIterator[Database]:
    """A client, and settings whose result database is new and has its tables."""
    settings = Settings(
        clickhouse_host=address[0], clickhouse_port=address[1], clickhouse_database=fresh_name("db")
    )
    client = ClickHouseClient.from_settings(settings, answer_seconds=PATIENCE)
    try:
        await create_tables(client, settings)
        yield client, settings
        await client.command(f"DROP DATABASE IF EXISTS {settings.result_database} SYNC")
    finally:
        await client.close()


def sink_for(
    client: ClickHouseClient,
    settings: Settings,
    kafka: FakeKafka,
    *,
    lease: FakeLease | None = None,
    writer: ClickHouseClient | None = None,
    report: Report = no_report,
    erased: Erased = nothing_erased,
) -> Sink:
    return Sink(
        client,
        settings.result_database,
        TOPICS,
        sender=kafka,
        tail=kafka,
        topic_ids=kafka,
        lease=lease or FakeLease(),
        writer=writer,
        report=report,
        erased=erased,
    )


async def run_until_stored(sink: Sink, source: FakeInput, *, generation: int = 1) -> None:
    """Run the sink until everything is committed, then let it go."""
    task = asyncio.create_task(sink.run(source, source.committed, generation))
    try:
        await eventually(
            lambda: task.done() or not source.lag,
            "everything is committed",
            measure=lambda: (source.lag, sink.counts.total()),
        )
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled() and task.exception():
            await task


class BadLine:
    """A TCP line to ClickHouse that can be told to go wrong.

    ``cut_request_after``: cut the connection after so many bytes of a request.
    ``cut_response``: pass the request on, and cut the connection instead of answering it.
    ``cut_response_after``: cut the connection after so many bytes of an answer.
    ``swallow_answers``: pass the request on, and leave its sender without an answer.
    ``stall_seconds``: keep the end of a chunked request for so long, then pass it on, sender or not.
    ``hold_seconds``: keep a whole chunked request for so long, then pass it on, sender or no sender.
    Each applies ``times`` times.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self.cut_request_after: int | None = None
        self.cut_response = False
        self.cut_response_after: int | None = None
        self.swallow_answers = False
        self.stall_seconds = 0.0
        self.hold_seconds = 0.0
        self.times = 0
        self.cuts = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._server.getsockname()[:2]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.create_connection(self._target)
        ended = threading.Event()

        def answers() -> None:
            passed = 0
            with contextlib.suppress(OSError):
                while data := server.recv(1 << 16):
                    if self.swallow_answers and self._take():
                        continue
                    passed += len(data)
                    most = 0 if self.cut_response else self.cut_response_after
                    if most is not None and passed > most and self._take():
                        break
                    client.sendall(data)
            ended.set()
            _shut(client, server)

        threading.Thread(target=answers, daemon=True).start()
        passed = 0
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                passed += len(data)
                if self.hold_seconds and b"chunked" in data and self._take():
                    while not data.endswith(b"0\r\n\r\n"):
                        data += client.recv(1 << 16)
                    time.sleep(self.hold_seconds)
                    server.sendall(data)
                    time.sleep(self.hold_seconds)
                    continue
                if self.cut_request_after is not None and passed > self.cut_request_after and self._take():
                    break
                if self.stall_seconds and data.endswith(b"0\r\n\r\n") and self._take():
                    time.sleep(self.stall_seconds)
                    server.sendall(data)
                    time.sleep(self.stall_seconds)  # the server sees the end before it sees that we are gone
                    continue
                server.sendall(data)
        _shut(client, server)

    def _take(self) -> bool:
        if self.cuts >= self.times:
            return False
        self.cuts += 1
        return True


def _shut(*sockets: socket.socket) -> None:
    for one in sockets:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()


async def ids(database: Database, table: str = "logs_labeled") -> Counter[str]:
    """Row ids in a result table, and how often each stands there."""
    client, settings = database
    rows = await client.rows(f"SELECT row_id FROM {settings.result_database}.{table}")
    return Counter(row[0] for row in rows)


def each_once(*numbers: Iterable[int]) -> Counter[str]:
    """Counts of rows that are known by numbers; of one that is given twice, two."""
    return Counter(str(number) for some in numbers for number in some)
