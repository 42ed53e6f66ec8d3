"""A client whose start is cut short or fails leaves no connection."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiokafka.protocol.admin import ApiVersionResponse_v0

from connectors.kafka.admin_client import AdminClient
from connectors.kafka.backlog import BacklogReader
from connectors.kafka.broadcast import Broadcast
from connectors.kafka.follow import Follower
from connectors.kafka.lag import LagReader
from connectors.kafka.producer import LeasedProducer
from connectors.kafka.tail import TailReader
from streams.core.records import Outgoing, Partition
from tests.waiting import eventually

Arguments = dict[str, Any]


class HalfBroker:
    """Tells its versions, and then answers nothing more, or closes."""

    def __init__(self) -> None:
        self.open = 0
        self.asked = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            while True:
                size = int.from_bytes(await reader.readexactly(4))
                request = await reader.readexactly(size)
                if int.from_bytes(request[:2]) != 18:
                    self.asked += 1
                    continue
                answer = request[4:8] + ApiVersionResponse_v0(0, [(3, 0, 5), (18, 0, 0)]).encode()
                writer.write(len(answer).to_bytes(4) + answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()


@pytest.fixture
async def broker() -> AsyncIterator[tuple[HalfBroker, Arguments]]:
    half = HalfBroker()
    async with await asyncio.start_server(half.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield half, {"bootstrap_servers": f"127.0.0.1:{port}"}


async def _admin(arguments: Arguments) -> None:
    async with AdminClient(arguments).use():
        pass


async def _lag(arguments: Arguments) -> None:
    async with LagReader(arguments):
        pass


async def _backlog(arguments: Arguments) -> None:
    await BacklogReader(arguments).read({Partition("t", 0): 0})


async def _tail(arguments: Arguments) -> None:
    await TailReader(arguments).offsets_at([Partition("t", 0)], 0)


async def _follower(arguments: Arguments) -> None:
    await Follower(arguments, "t", lambda record: None).run()


async def _broadcast(arguments: Arguments) -> None:
    made = Broadcast(arguments, "t")
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(made.close)
        await anext(made.follow("now", 1.0))


async def _producer(arguments: Arguments) -> None:
    await LeasedProducer(arguments).send([Outgoing("t", 0, None, b"")])


@pytest.mark.parametrize("use", [_admin, _lag, _backlog, _tail, _follower, _broadcast, _producer])
async def test_cancelled_while_it_waits_for_its_first_answer(
    use: Callable[[Arguments], Awaitable[None]], broker: tuple[HalfBroker, Arguments]
) -> None:
    half, arguments = broker
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    using = asyncio.ensure_future(use(arguments))
    await eventually(lambda: half.asked, "it asks for the brokers")
    using.cancel()
    await asyncio.wait([using])
    assert using.cancelled()
    del using
    gc.collect()
    await eventually(lambda: half.open == 0, "it leaves")
    assert complaints == []
