"""What the brokers say of a member, whatever the member believes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from connectors.kafka.connection import connection
from connectors.kafka.consumer import GroupConsumer, Session
from connectors.kafka.group_view import GroupView
from connectors.kafka.producer import LeasedProducer
from streams.core.records import Commit, Outgoing, Partition
from streams.core.settings import Settings
from streams.core.topics import ConsumerGroup
from tests.kafka_tools import make_topic
from tests.stack import SharedStack, fresh_name
from tests.waiting import PATIENCE


@pytest.fixture(scope="module")
def arguments(shared: SharedStack) -> dict[str, Any]:
    return connection(Settings(kafka_bootstrap_servers=shared.kafka().address))


async def test_a_member_owes_what_is_not_committed_though_it_does_nothing(arguments: dict[str, Any]) -> None:
    seen, viewed = fresh_name("seen"), fresh_name("viewed")
    await make_topic(arguments, seen, 3)
    producer = LeasedProducer(arguments)
    await producer.send_many([Outgoing(seen, number % 2, b"k", b"v") for number in range(10)])
    await producer.stop()
    group = GroupConsumer(arguments, ConsumerGroup(viewed, {"read": (seen,)}))
    view = GroupView(arguments, viewed)
    began: asyncio.Queue[Session] = asyncio.Queue()

    async def idle(session: Session) -> None:
        began.put_nowait(session)
        await session.ending.wait()

    running = asyncio.create_task(group.run(idle))
    try:
        session = await asyncio.wait_for(began.get(), PATIENCE)
        mine = {Partition(seen, number) for number in range(3)}
        assert await view.assigned(group.lease.member) == mine
        assert await view.behind(group.lease.member) == {Partition(seen, 0): 5, Partition(seen, 1): 5}
        await session.commit({Partition(seen, 0): Commit(5), Partition(seen, 1): Commit(2)})
        assert await view.behind(group.lease.member) == {Partition(seen, 1): 3}
        assert await view.assigned("somebody else") == frozenset()
    finally:
        running.cancel()
        await asyncio.wait([running])
