"""One admin client for many users: kept, and replaced after a failure."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    KafkaConnectionError,
    NotCoordinatorForGroupError,
    RequestTimedOutError,
)
from aiokafka.protocol.admin import DescribeGroupsResponse_v1
from aiokafka.protocol.commit import OffsetFetchRequest, OffsetFetchResponse_v3
from aiokafka.structs import OffsetAndMetadata

from connectors.kafka import admin_client
from connectors.kafka.admin_client import AdminClient, committed_offsets, from_coordinator, read_committed
from connectors.kafka.group_view import GroupView
from connectors.kafka.lag import LagReader
from connectors.kafka.protocol.describe_group import DescribeGroup
from streams.core.errors import AccessError, UnavailableError


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


class Coordinators:
    """Of aiokafka's client: coordinators, of which the first few looks find none."""

    def __init__(self, none: int) -> None:
        self.none = none
        self.looks = 0

    async def find_coordinator(self, group: str) -> int:
        self.looks += 1
        if self.looks <= self.none:
            raise GroupCoordinatorNotAvailableError(group)
        return 7


@pytest.mark.parametrize("none", [0, 3])
async def test_a_coordinator_is_waited_for_where_no_group_has_been_before(
    none: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_client, "_PAUSE", 0.0)
    admin = Coordinators(none)

    async def ask(node: int) -> str:
        return f"from {node}"

    assert await from_coordinator(admin, "group", ask) == "from 7"
    assert admin.looks == none + 1


async def test_a_coordinator_that_does_not_come_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_client, "_PAUSE", 0.0)

    async def ask(node: int) -> None: ...

    with pytest.raises(GroupCoordinatorNotAvailableError):
        await from_coordinator(Coordinators(1000), "group", ask)


PLACE = TopicPartition("rows", 0)
CANNOT_TELL = [GroupLoadInProgressError, NotCoordinatorForGroupError, GroupCoordinatorNotAvailableError]


class Loading(FakeAdmin):
    """Of aiokafka's client: a coordinator that refuses the first ``refusals`` requests about a group, and
    ``partition``: the error of the partition in its answers.
    """

    refusals: list[int]
    partition = 0

    async def find_coordinator(self, group: str) -> int:
        return 7

    async def _send_request(self, request: object, node: int) -> object:
        code = self.refusals.pop(0) if self.refusals else 0
        if isinstance(request, DescribeGroup):
            members = [] if code else [("me", "client", "host", b"", b"")]
            return DescribeGroupsResponse_v1(0, [(code, "group", "" if code else "Stable", "", "", members)])
        assert isinstance(request, OffsetFetchRequest)
        return OffsetFetchResponse_v3(0, [] if code else [("rows", [(0, 7, "at", self.partition)])], code)


@pytest.fixture
def loading(monkeypatch: pytest.MonkeyPatch) -> type[Loading]:
    monkeypatch.setattr(admin_client, "_PAUSE", 0.0)
    monkeypatch.setattr(admin_client, "AIOKafkaAdminClient", Loading)
    monkeypatch.setattr(Loading, "refusals", [], raising=False)
    return Loading


@pytest.mark.parametrize("refusal", CANNOT_TELL)
async def test_a_group_that_is_being_loaded_is_not_one_without_commits(
    refusal: type[GroupLoadInProgressError], loading: type[Loading]
) -> None:
    loading.refusals = [refusal.errno] * 2
    assert await committed_offsets(Loading(), "group") == {PLACE: OffsetAndMetadata(7, "at")}
    loading.refusals = [refusal.errno] * 1000
    with pytest.raises(refusal):
        await committed_offsets(Loading(), "group")
    with pytest.raises(refusal):
        await read_committed(Loading(), "group", 7, [PLACE])


async def test_a_partition_whose_offset_is_refused_is_an_error(
    loading: type[Loading], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "partition", GroupAuthorizationFailedError.errno)
    with pytest.raises(GroupAuthorizationFailedError):
        await read_committed(Loading(), "group", 7, [PLACE])


@pytest.mark.parametrize("refusal", CANNOT_TELL)
async def test_a_group_that_is_being_loaded_is_not_one_without_members(
    refusal: type[GroupLoadInProgressError], loading: type[Loading]
) -> None:
    lags = LagReader({"bootstrap_servers": "127.0.0.1:1"}, AdminClient({}))
    try:
        loading.refusals = [refusal.errno] * 2
        assert await lags.members(["group"]) == {"group": 1}
        loading.refusals = [refusal.errno] * 1000
        with pytest.raises(UnavailableError):
            await lags.members(["group"])
    finally:
        await lags.__aexit__()


async def test_the_watchdog_is_told_of_a_group_that_cannot_be_read(loading: type[Loading]) -> None:
    view = GroupView({}, "group", AdminClient({}))
    for refusal, error in (
        (GroupLoadInProgressError, UnavailableError),
        (GroupAuthorizationFailedError, AccessError),
    ):
        loading.refusals = [refusal.errno]
        with pytest.raises(error):
            await view.assigned("me")
