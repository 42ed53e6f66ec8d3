"""Three queues for several people: who gets which row with what, and what is published and stored of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from connectors.clickhouse.queries.given_labels import GivenLabel
from connectors.clickhouse.queries.label_versions import LabelVersion
from streams.core.errors import RefusedError, UnavailableError
from streams.core.messages import HumanLabel, Labeled
from streams.core.records import Outgoing, Record
from streams.core.settings import Settings
from streams.core.topics import Topics
from streams.ports.lookups import Place
from streams.ports.review import HumanAnswer, ReviewAnswer, item_key
from streams.privacy.door import Door
from streams.privacy.pseudonyms import is_pseudonym
from streams.quality.audit import Draw, DrawnRow
from streams.review import board as boards
from streams.review import queue as queues
from streams.review import unsure
from streams.review.answers import label_of
from streams.review.leases import Reviews
from streams.review.queue import ReviewQueue
from streams.runtime import erasures as known_erasures
from tests.unit.streams.privacy.fakes import UNMASKABLE, make_door

AT = datetime(2026, 3, 2, tzinfo=UTC)
PLACES = [Place(AT, str(n)) for n in range(4)]
OTHER = Place(AT, "not drawn")


class World:
    """The topic and the tables, for all processes that ask."""

    def __init__(self) -> None:
        self.topics, self.reviews = Topics(), Reviews()
        self.published: list[HumanLabel] = []
        self.stored: list[ReviewAnswer] = []
        self.asked_without: datetime | None = None
        self.erased: set[str] = set()

    async def write(self, *messages: Outgoing, learn: bool = True) -> None:
        for one in messages:
            now = int(datetime.now(UTC).timestamp() * 1000)
            offset = self.reviews.seen + 1
            self.reviews.learn(Record(one.topic, 0, offset, now, one.key, one.value))

    async def publish(self, message: HumanLabel, partitions: int) -> None:
        self.published.append(message)

    async def ask(self, work: Callable[[Any, Any], Awaitable[Any]]) -> Any:
        return await work(self, None)

    def answers(self) -> dict[Place, list[HumanAnswer]]:
        """Those that stand, as the tables' query makes them."""
        last: dict[Any, HumanAnswer] = {}
        for said in self.published:
            who, undone = said.model.removeprefix("human:").removesuffix(":undo"), said.model.endswith("undo")
            key = (said.row_id, who, said.drawn_by)
            last.pop(key, None)
            if not undone:
                last[key] = _answer(said, "label", said.label, who, said.labeled_at)
        for told in self.stored:
            key = (told.row_id, told.who, told.drawn_by)
            last.pop(key, None)
            if told.answer != "taken-back":
                last[key] = _answer(told, told.answer, None, told.who, told.answered_at)
        found: dict[Place, list[HumanAnswer]] = {}
        for one in sorted(last.values(), key=lambda one: one.answered_at):
            found.setdefault(Place(one.created_at, one.row_id), []).append(one)
        return found


def _answer(of: Any, answer: Any, label: str | None, who: str, at: datetime) -> HumanAnswer:
    return HumanAnswer(
        of.row_id, of.created_at, of.text, None, answer, label, who, at, of.drawn_by, of.draw_probability
    )


def row(place: Place) -> Labeled:
    return Labeled(
        row_id=place.row_id,
        text=f"text of {place.row_id}",
        created_at=place.created_at,
        polled_at=AT,
        label="payment",
        confidence=0.4,
        label_version="v1",
        model="m",
        labeled_at=AT,
    )


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()

    async def current_of(client: World, _: Any, places: Sequence[Place], **__: Any) -> dict[Place, Labeled]:
        return {place: row(place) for place in places}

    async def write_answers(client: World, _: Any, answers: Sequence[ReviewAnswer]) -> None:
        client.stored += answers

    class Erasures:
        def __init__(self, client: World, _: Any) -> None:
            self._client = client

        async def now(self) -> Any:
            return SimpleNamespace(covers=lambda row_id, *_: row_id in self._client.erased)

    async def look(client: World, _: Any, __: Any) -> Any:
        drawn = [DrawnRow(place, 0.25, n / 10) for n, place in enumerate(PLACES)]
        return boards._State(Draw(drawn, len(drawn), AT - timedelta(days=7)), client.answers())

    async def least_sure(client: World, _: Any, most: int, audited: Any) -> list[Place]:
        client.asked_without = audited.since
        return [PLACES[3], OTHER]

    async def human_answers(client: World, _: Any, **__: Any) -> Any:
        for some in client.answers().values():
            for one in some:
                yield one

    monkeypatch.setattr(queues, "current_of", current_of)
    monkeypatch.setattr(queues, "write_answers", write_answers)
    monkeypatch.setattr(known_erasures, "ErasedRows", Erasures)
    monkeypatch.setattr(boards, "_look", look)
    monkeypatch.setattr(unsure, "least_sure", least_sure)
    monkeypatch.setattr(boards, "human_answers", human_answers)
    return made


class Asked:
    """A process of the API."""

    def __init__(self, world: World, door: Door | None = None, **settings: Any) -> None:
        self.world = world
        self.queue = ReviewQueue(Settings(**settings), cast(Any, world), door)

        async def wired() -> Any:
            return world

        cast(Any, self.queue)._wired = wired

    async def ids(self, owner: str, queue: Any, want: int = 10) -> list[str]:
        await self.queue._board._look()  # the tables are read every few seconds
        return [one.place.row_id for one in await self.queue.claim(owner, want, queue)]


async def test_rows_of_the_audit_come_blindly_and_once(world: World) -> None:
    first, second = Asked(world, review_overlap=0.0), Asked(world, review_overlap=0.0)
    await first.queue._board._look()
    rows = await first.queue.claim("anna/1", 2, "audit")
    assert [(one.place.row_id, one.text, one.labeled, one.answers) for one in rows] == [
        ("0", "text of 0", None, ()),
        ("1", "text of 1", None, ()),
    ]
    assert await second.ids("boris/1", "audit") == ["2", "3"]
    await first.queue.label("anna/1", PLACES[0], "payment", "audit")
    await first.queue.label("anna/1", PLACES[0], "payment", "audit")  # a repeated request
    (said,) = world.published
    assert (said.label, said.model, said.drawn_by, said.draw_probability) == (
        *("payment", "human:anna", "audit", 0.25),
    )
    with pytest.raises(RefusedError):
        await second.queue.label("boris/1", PLACES[1], "payment", "audit")
    # Not sure: one more person is asked, and nobody after that.
    await first.queue.answer("anna/1", PLACES[1], "not-sure", "audit")
    assert "1" not in await first.ids("anna/1", "audit")
    assert await second.ids("boris/1", "audit") == ["1", "2", "3"]
    await second.queue.answer("boris/1", PLACES[1], "no-label", "audit")
    assert [(one.answer, one.who, one.draw_probability) for one in world.stored] == [
        ("not-sure", "anna", 0.25),
        ("no-label", "boris", 0.25),
    ]
    assert "1" not in await first.ids("vera/1", "audit")
    assert (await first.queue._board.waiting())[0] == 2


async def test_nothing_is_written_of_an_erased_row(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Asked(world)
    assert await desk.ids("anna/1", "audit", 2) == ["0", "1"]
    await desk.queue.label("anna/1", PLACES[1], "payment", "audit")
    world.erased = {"0", "1", "2"}
    written: list[bytes | None] = []
    write = world.write

    async def noted(*messages: Outgoing, learn: bool = True) -> None:
        written.extend(one.key for one in messages)
        await write(*messages, learn=learn)

    monkeypatch.setattr(world, "write", noted)
    with pytest.raises(RefusedError, match="erased"):
        await desk.queue.answer("anna/1", PLACES[0], "not-sure", "audit")
    with pytest.raises(RefusedError, match="erased"):
        await desk.queue.label("anna/1", PLACES[0], "payment", "audit")
    with pytest.raises(RefusedError, match="erased"):
        await desk.queue.undo("anna/1", PLACES[1], "audit")
    for place in (PLACES[0], PLACES[2]):
        with pytest.raises(RefusedError, match="erased"):
            await desk.queue.skip("anna/1", place, "audit")
    assert (world.stored, len(world.published), written) == ([], 1, [])
    assert await desk.ids("vera/1", "audit", 1) == ["3"]
    assert written == [b"lease/" + item_key(PLACES[3], "audit").encode()]


async def test_a_lease_of_an_erased_row_is_not_given_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Asked(world)
    await desk.ids("anna/1", "audit", 1)
    key = b"lease/" + item_key(PLACES[0], "audit").encode()
    await world.write(Outgoing("esk.review", 0, key, None))  # as an erasure does

    async def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("it names the row again")

    monkeypatch.setattr(world, "write", refused)
    await desk.queue.release("anna/1")


async def test_what_two_people_answered_differently_is_settled_by_a_third(world: World) -> None:
    keys = ",".join(f"{name}:write:key-of-{name}" for name in ("anna", "boris", "vera"))
    desk = Asked(world, review_overlap=1.0, api_keys=keys)
    await desk.ids("anna/1", "audit", 2)
    await desk.queue.label("anna/1", PLACES[0], "payment", "audit")
    await desk.queue.label("anna/1", PLACES[1], "payment", "audit")
    assert await desk.ids("boris/1", "audit", 2) == ["0", "1"]
    await desk.queue.label("boris/1", PLACES[0], "refund", "audit")
    await desk.queue.label("boris/1", PLACES[1], "payment", "audit")
    assert await desk.ids("anna/1", "disagreements") == []
    assert await desk.ids("boris/1", "disagreements") == []
    assert await desk.ids("vera/1", "disagreements") == ["0"]
    (shown,) = await desk.queue.claim("vera/1", 5, "disagreements")
    assert (shown.labeled, list(shown.answers)) == (None, ["payment", "refund"])
    state = await desk.queue._board.state()
    assert (state.doubled, state.kappa) == (2, 0.0)
    await desk.queue.label("vera/1", PLACES[0], "refund", "disagreements")
    assert (world.published[-1].drawn_by, world.published[-1].draw_probability) == ("disagreements", 0.25)
    assert await desk.ids("vera/2", "disagreements") == []
    # The settler's undo leaves the label that the last of the others gave.
    await desk.queue.undo("vera/1", PLACES[0], "disagreements")
    assert (world.published[-1].label, world.published[-1].model) == ("refund", "human:vera:undo")
    assert await desk.ids("vera/1", "disagreements") == ["0"]


async def test_who_cannot_settle_a_row_leaves_it_to_the_next(world: World) -> None:
    keys = ",".join(f"{name}:write:key-of-{name}" for name in ("anna", "boris", "vera", "gleb"))
    desk = Asked(world, review_overlap=1.0, api_keys=keys)
    for person, label in (("anna/1", "payment"), ("boris/1", "refund")):
        await desk.ids(person, "audit", 1)
        await desk.queue.label(person, PLACES[0], label, "audit")
    assert await desk.ids("vera/1", "disagreements") == ["0"]
    await desk.queue.answer("vera/1", PLACES[0], "not-sure", "disagreements")
    assert await desk.ids("vera/2", "disagreements") == []
    assert (await desk.queue._board.waiting())[1] == 1
    assert await desk.ids("gleb/1", "disagreements") == ["0"]
    await desk.queue.label("gleb/1", PLACES[0], "refund", "disagreements")
    await desk.queue._board._look()
    assert (await desk.queue._board.waiting())[1] == 0


async def test_the_unsure_queue_has_no_row_of_the_audit(world: World) -> None:
    desk = Asked(world)
    # Its query does not know for sure which rows are drawn for the sake of their label.
    assert await desk.ids("anna/1", "unsure") == ["not drawn"]
    assert world.asked_without == AT - timedelta(days=7)


async def test_an_undo_in_the_audit_leaves_one_s_answer_of_another_queue(world: World) -> None:
    desk = Asked(world, review_overlap=0.0)
    earlier = label_of(row(PLACES[0]), "anna", "delivery", "unsure", None)
    world.published.append(earlier)
    await desk.ids("anna/1", "audit", 1)
    await desk.queue.label("anna/1", PLACES[0], "payment", "audit")
    await desk.queue.undo("anna/1", PLACES[0], "audit")
    assert (world.published[-1].label, world.published[-1].model) == ("delivery", "human:anna:undo")


async def test_an_undo_takes_back_one_s_own_answer_only(world: World) -> None:
    # With two people, one of them settles.
    desk = Asked(world, review_overlap=1.0)
    await desk.ids("anna/1", "audit", 1)
    await desk.queue.label("anna/1", PLACES[0], "payment", "audit")
    await desk.ids("boris/1", "audit", 1)
    await desk.queue.label("boris/1", PLACES[0], "refund", "audit")
    assert await desk.ids("anna/2", "disagreements") == ["0"]
    back = await desk.queue.undo("anna/1", PLACES[0], "audit")
    assert (back.labeled, back.text) == (None, "text of 0")
    # Boris's label stands.
    assert (world.published[-1].label, world.published[-1].model) == ("refund", "human:anna:undo")
    assert [(one.who, one.label) for one in world.answers()[PLACES[0]]] == [("boris", "refund")]
    assert (await desk.ids("anna/1", "audit", 1)) == ["0"]
    await desk.queue.answer("anna/1", PLACES[0], "no-label", "audit")
    await desk.queue.undo("anna/1", PLACES[0], "audit")
    assert [one.answer for one in world.stored] == ["no-label", "taken-back"]
    with pytest.raises(RefusedError):
        await desk.queue.undo("anna/1", PLACES[0], "audit")
    await desk.queue.release("anna/1")
    assert await desk.ids("vera/1", "audit", 1) == ["0"]


async def test_a_row_that_was_found_by_search_is_corrected_by_anybody_at_any_time(world: World) -> None:
    desk = Asked(world)
    # Nobody hands it out, another person has it on the desk, and it may be drawn.
    await desk.ids("boris/1", "audit")
    for label in ("refund", "refund", "delivery"):
        await desk.queue.label("anna/1", PLACES[0], label, "search")
    assert [(one.label, one.model, one.drawn_by, one.draw_probability) for one in world.published] == [
        ("refund", "human:anna", "search", None),
        ("delivery", "human:anna", "search", None),
    ]
    first, second = world.published
    assert second.labeled_at > first.labeled_at
    # It is a judgement beside the audit, which asks about the row all the same.
    assert "0" in await desk.ids("boris/1", "audit")
    # No label fits: the row has its former one again.
    await desk.queue.answer("anna/1", PLACES[0], "no-label", "search")
    assert (world.published[-1].label, world.published[-1].model) == ("payment", "human:anna:undo")
    assert world.published[-1].labeled_at > second.labeled_at
    assert [(one.answer, one.drawn_by) for one in world.stored] == [("no-label", "search")]
    assert world.stored[-1].answered_at > world.published[-1].labeled_at
    await desk.queue.undo("anna/1", PLACES[0], "search")
    assert not world.answers().get(PLACES[0])
    await desk.queue.label("anna/1", PLACES[0], "refund", "search")
    await desk.queue.undo("anna/1", PLACES[0], "search")
    assert (world.published[-1].label, world.published[-1].model) == ("payment", "human:anna:undo")


async def test_a_correction_of_an_audited_row_goes_to_somebody_who_settles_it(world: World) -> None:
    keys = ",".join(f"{name}:write:key-of-{name}" for name in ("anna", "boris", "vera"))
    desk = Asked(world, review_overlap=0.0, api_keys=keys)
    await desk.ids("anna/1", "audit", 1)
    await desk.queue.label("anna/1", PLACES[0], "payment", "audit")
    await desk.queue.label("boris/1", PLACES[0], "refund", "search")
    assert [await desk.ids(f"{one}/1", "disagreements") for one in ("anna", "boris", "vera")] == [
        [],
        [],
        ["0"],
    ]
    (shown,) = await desk.queue.claim("vera/1", 5, "disagreements")
    assert list(shown.answers) == ["payment", "refund"]


async def test_where_all_take_theirs_back_the_row_has_the_model_s_label(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def current_of(client: World, _: Any, places: Sequence[Place], **__: Any) -> dict[Place, Labeled]:
        newest = [one for one in client.published if one.row_id == PLACES[0].row_id]
        return {place: newest[-1] if newest and place == PLACES[0] else row(place) for place in places}

    async def list_versions(*_: Any) -> list[LabelVersion]:
        return [LabelVersion("v1", "m", "p", "t", "json", "promoted", AT, AT, AT, current=True)]

    async def labels_at(_: Any, __: Any, version: str, places: Sequence[Place]) -> dict[Place, GivenLabel]:
        assert version == "v1"
        return {place: GivenLabel(AT, "payment", 0.4, None) for place in places}

    monkeypatch.setattr(queues, "current_of", current_of)
    monkeypatch.setattr(boards, "list_versions", list_versions)
    monkeypatch.setattr(boards, "labels_at", labels_at)
    desk = Asked(world, review_overlap=1.0)
    await desk.ids("anna/1", "audit", 1)
    await desk.queue.label("anna/1", PLACES[0], "refund", "audit")
    await desk.ids("boris/1", "audit", 1)
    await desk.queue.label("boris/1", PLACES[0], "delivery", "audit")
    await desk.queue.undo("anna/1", PLACES[0], "audit")
    await desk.queue.undo("boris/1", PLACES[0], "audit")
    assert (world.published[-1].label, world.published[-1].model) == ("payment", "human:boris:undo")


async def test_an_undo_in_the_unsure_queue_leaves_a_later_correction(world: World) -> None:
    desk = Asked(world)
    await desk.ids("anna/1", "unsure", 1)
    await desk.queue.label("anna/1", OTHER, "refund")
    await desk.queue.label("boris/1", OTHER, "delivery", "search")
    await desk.queue.undo("anna/1", OTHER)
    assert (world.published[-1].label, world.published[-1].model) == ("delivery", "human:anna:undo")


async def test_an_undo_is_published_once_the_other_processes_know_of_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def write(*_: Any, **__: Any) -> None:
        raise UnavailableError("away", setting="KAFKA_BOOTSTRAP_SERVERS")

    desk = Asked(world)
    await desk.ids("anna/1", "audit", 1)
    await desk.queue.label("anna/1", PLACES[0], "refund", "audit")
    # Taken back, and answered for the topic: nobody would be asked about the row again.
    with monkeypatch.context() as away:
        away.setattr(world, "write", write)
        with pytest.raises(UnavailableError):
            await desk.queue.undo("anna/1", PLACES[0], "audit")
    assert [one.model for one in world.published] == ["human:anna"]
    await desk.queue.undo("anna/1", PLACES[0], "audit")
    assert [one.model for one in world.published] == ["human:anna", "human:anna:undo"]


async def test_nothing_plain_of_an_older_row_is_published_with_a_persons_answer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {"0": "мой +7 916 123-45-67", "1": "мой +7 916 123-45-68", "2": UNMASKABLE}

    async def current_of(_: Any, __: Any, places: Sequence[Place], **___: Any) -> dict[Place, Labeled]:
        told = {"user_id": "79161234567", "session_id": "s-1"}
        return {one: row(one).model_copy(update={"text": texts[one.row_id], **told}) for one in places}

    monkeypatch.setattr(queues, "current_of", current_of)
    asked = Asked(world, make_door(), review_overlap=0.0)
    await asked.ids("anna/1", "audit", 3)
    await asked.queue.label("anna/1", PLACES[0], "delivery", "audit")
    await asked.queue.undo("anna/1", PLACES[0], "audit")
    await asked.queue.answer("anna/1", PLACES[1], "not-sure", "audit")
    assert [one.text for one in (*world.published, *world.stored)] == ["мой [ТЕЛЕФОН]"] * 3
    assert all(is_pseudonym(one.user_id or "") for one in world.published)
    assert all(is_pseudonym(one.session_id or "") for one in world.published)
    with pytest.raises(RefusedError, match="cannot be masked") as refused:
        await asked.queue.label("anna/1", PLACES[2], "delivery", "audit")
    assert refused.value.reason == "cannot-mask"
    assert len(world.published) == 2
