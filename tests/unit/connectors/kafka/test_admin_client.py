"""One admin client for many users: kept, and replaced after a failure."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.errors import KafkaConnectionError, RequestTimedOutError

from connectors.kafka import admin_client
from connectors.kafka.admin_client import AdminClient
from streams.core.errors import UnavailableError


class FakeAdmin:
    """Of aiokafka's client: whether it is connected."""

    made: list[FakeAdmin]
    away = False

    def __init__(self, **arguments: object) -> None:
        self.open = False
        self.made.append(self)

    async def start(self) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise KafkaConnectionError("no brokers")
        self.open = True

    async def close(self) -> None:
        self.open = False


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> list[FakeAdmin]:
    monkeypatch.setattr(FakeAdmin, "made", [], raising=False)
    monkeypatch.setattr(admin_client, "AIOKafkaAdminClient", FakeAdmin)
    return FakeAdmin.made


def connected(made: list[FakeAdmin]) -> int:
    return sum(one.open for one in made)


async def use(client: AdminClient, meanwhile: asyncio.Event | None = None) -> object:
    async with client.use() as admin:
        if meanwhile is not None:
            await meanwhile.wait()
        return admin


async def test_users_share_one_that_stays(made: list[FakeAdmin]) -> None:
    client = AdminClient({}, kept=True)
    await asyncio.gather(*(use(client) for _ in range(5)))
    await use(client)
    assert (len(made), connected(made)) == (1, 1)
    await client.close()
    assert connected(made) == 0


async def test_without_being_kept_the_last_user_closes_it(made: list[FakeAdmin]) -> None:
    client, meanwhile = AdminClient({}), asyncio.Event()
    users = [asyncio.create_task(use(client, meanwhile)) for _ in range(2)]
    await asyncio.sleep(0.01)
    await use(client)
    assert (len(made), connected(made)) == (1, 1)
    meanwhile.set()
    await asyncio.gather(*users)
    assert connected(made) == 0


@pytest.mark.parametrize("error", [RequestTimedOutError(), asyncio.CancelledError()])
async def test_after_a_failure_the_next_user_gets_another(
    made: list[FakeAdmin], error: BaseException
) -> None:
    """A cancelled user may have waited for a connection that is dead."""
    client, meanwhile = AdminClient({}, kept=True), asyncio.Event()
    other = asyncio.create_task(use(client, meanwhile))
    await asyncio.sleep(0.01)
    with pytest.raises((UnavailableError, asyncio.CancelledError)):
        async with client.use():
            raise error
    assert await use(client) is made[1]
    assert made[0].open  # somebody still uses it
    meanwhile.set()
    await other
    assert [one.open for one in made] == [False, True]
    await client.close()
    assert connected(made) == 0


async def test_tries_again_when_no_broker_answered(
    made: list[FakeAdmin], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = AdminClient({}, kept=True)
    monkeypatch.setattr(FakeAdmin, "away", True)
    with pytest.raises(UnavailableError):
        await use(client)
    monkeypatch.setattr(FakeAdmin, "away", False)
    await use(client)
    assert connected(made) == 1
    await client.close()


async def test_closed_while_it_is_used_its_last_user_closes_it(made: list[FakeAdmin]) -> None:
    client, meanwhile = AdminClient({}, kept=True), asyncio.Event()
    user = asyncio.create_task(use(client, meanwhile))
    await asyncio.sleep(0.01)
    await client.close()
    assert connected(made) == 1
    meanwhile.set()
    await user
    assert connected(made) == 0
