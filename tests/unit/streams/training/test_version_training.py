"""The cascade of one version, from its first text to its repair."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterable

import pytest

from agents.proxy.audited import is_audited
from streams.cascade.generation import Generation, learn
from streams.cascade.shares import fit_at, most_twice, part_of
from streams.core.cascade import CascadeState
from streams.training.generations import AuditedText
from streams.training.sights import Seen, text_digest
from streams.training.version_training import CascadeLimits, VersionTraining

SECOND = 1_000_000
WORDS = {
    "карта": ("карту", "карты", "пластик", "перевыпуск карты"),
    "кредит": ("кредит", "кредита", "ипотеку", "рассрочку"),
    "счёт": ("счёт", "выписку", "остаток", "реквизиты"),
    "связь": ("интернет", "роутер", "тариф", "симку"),
}
BEFORE = ("хочу узнать про", "подскажите как быть", "не работает", "помогите оформить", "почему мне не дают")


class World:
    """A model that is right, texts that never repeat, and a clock."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self._random = random.Random(5)
        self._number = 0

    def texts(self, count: int) -> list[tuple[str, str]]:
        found = []
        for _ in range(count):
            self._number += 1
            label = self._random.choice(list(WORDS))
            text = f"{self._random.choice(BEFORE)} {self._random.choice(WORDS[label])} {self._number}"
            found.append((text, label))
        return found

    def seen(
        self, texts: Iterable[tuple[str, str]], decided_by: str = "llm", generation: int | None = None
    ) -> list[Seen]:
        found = []
        for text, label in texts:
            self.now += 0.01
            found.append(Seen(text, label, int(self.now * SECOND), decided_by, generation, drawn=False))
        return found

    def clock(self) -> float:
        return self.now


def limits(*, deciding: bool = True) -> CascadeLimits:
    return CascadeLimits(margin=0.01, risk=0.05, delay=480.0, deciding=deciding)


@functools.cache
def lesson() -> Generation:
    """Fitted once for all tests."""
    world = World()
    training = VersionTraining(CascadeState(version="v"), limits(), {}, world.clock)
    training.observe(world.seen(world.texts(1_300)))
    return learn(training.lessons())


def fit(training: VersionTraining) -> bytes:
    packed = lesson().proxy.pack()
    training.fitted(lesson(), packed)
    return packed


def again(training: VersionTraining, world: World, packed: bytes) -> VersionTraining:
    """What a successor makes of the state."""
    state = CascadeState.model_validate_json(training.state({}).model_dump_json())
    proxies = {one.generation: packed for one in training.proxies}
    return VersionTraining(state, limits(), proxies, world.clock)


def certified(world: World, *, deciding: bool = True) -> tuple[VersionTraining, bytes]:
    training = VersionTraining(CascadeState(version="v"), limits(deciding=deciding), {}, world.clock)
    training.observe(world.seen(world.texts(1_300)))
    assert training.fit_due
    packed = fit(training)
    for _ in range(20):
        if training.now_state.state == "certified":
            break
        training.observe(world.seen(world.texts(200)))
    return training, packed


def test_a_proxy_that_agrees_is_certified_against_the_model_and_says_what_it_saves() -> None:
    world = World()
    training, _ = certified(world, deciding=False)
    state = training.now_state
    assert (state.state, state.generation, state.certified_against) == ("certified", 1, "llm")
    assert state.threshold is not None
    training.observe(world.seen(world.texts(400)))
    state = training.state({})
    assert state.texts == 400
    assert state.calls_saved is not None
    assert 0.2 < state.calls_saved < 1.0
    assert state.audits == state.routable


def test_what_taught_a_generation_does_not_certify_it_and_repeats_count_once() -> None:
    world = World()
    training = VersionTraining(CascadeState(version="v"), limits(deciding=False), {}, world.clock)
    first = world.seen(world.texts(1_300))
    training.observe(first)
    fit(training)
    kept_back = sum(part_of("v", one.text) == "certify" for one in first)
    assert rows_of(training) == kept_back > 0
    training.observe(first)
    new = world.seen(world.texts(10))
    training.observe(new + new)
    assert rows_of(training) == kept_back + 10


def rows_of(training: VersionTraining) -> int:
    """With which the certificate was tried."""
    return int(training.state({}).checkpoint["current"]["llm"]["rows"])


def test_labels_at_random_are_never_certified() -> None:
    world, chance = World(), random.Random(1)
    training = VersionTraining(CascadeState(version="v"), limits(), {}, world.clock)
    for count in (1_300, *[200] * 10):
        texts = [(text, chance.choice(list(WORDS))) for text, _ in world.texts(count)]
        training.observe(world.seen(texts))
        if training.fit_due:
            fit(training)
    assert training.now_state.state == "learning"


def test_people_certify_what_disagrees_with_a_model_that_errs() -> None:
    world, chance = World(), random.Random(2)
    training = VersionTraining(CascadeState(version="v"), limits(), {}, world.clock)

    def erring(label: str) -> str:
        return chance.choice(list(WORDS)) if chance.random() < 0.15 else label

    training.observe(world.seen([(text, erring(label)) for text, label in world.texts(1_300)]))
    fit(training)
    rows = [(text, erring(label), label) for text, label in world.texts(900)]
    seen = world.seen([(text, said) for text, said, _ in rows])
    training.observe(seen)
    assert training.now_state.state == "learning"
    judged = [
        AuditedText(text_digest(text), text, said, label, one.at)
        for (text, said, label), one in zip(rows, seen, strict=True)
    ]
    training.judge(judged)
    assert training.now_state.certified_against == "people"
    assert all(text_digest(one.text) not in training.memory.judged for one in training.lessons())

    # It is theirs only as long as they say so; and what came because the proxy was unsure says nothing.
    lost = [(text, "связь" if label == "счёт" else "счёт") for text, label in world.texts(6_000)]
    answers = [
        AuditedText(text_digest(text), text, label, label, one.at)
        for (text, label), one in zip(lost, world.seen(lost), strict=True)
    ]
    drawn = [one for one in answers if is_audited("v", one.text, training.now_state.audit_rate)]
    training.judge([*judged, *[one for one in answers if one not in drawn][:1_500]])
    assert training.now_state.certified_against == "people"
    training.judge(judged[:5])  # the others are too old to be read
    assert training.now_state.certified_against == "people"
    training.judge([*judged, *drawn])
    state = training.state({})
    assert (state.state, state.threshold, state.decides) == ("learning", None, False)


def test_what_people_speak_against_no_certificate_against_the_model_keeps() -> None:
    world = World()
    training, _ = certified(world, deciding=False)
    assert training.now_state.certified_against == "llm"
    rows = world.texts(600)
    seen = world.seen(rows)
    training.observe(seen)

    def judged(right: Callable[[str], str]) -> list[AuditedText]:
        return [
            AuditedText(text_digest(text), text, "другое", right(label), one.at)
            for (text, label), one in zip(rows, seen, strict=True)
        ]

    training.judge(judged(lambda label: label))  # the proxy is right, the model is not
    assert training.now_state.state == "certified"
    training.judge(judged(lambda _: "другое"))
    assert (training.now_state.state, training.now_state.threshold) == ("learning", None)
    training.observe(world.seen(world.texts(200)))
    assert training.now_state.state == "learning"


def test_labels_that_teach_nothing_new_need_no_message() -> None:
    world = World()
    training, _ = certified(world)
    some = world.seen(world.texts(100))
    training.observe(some)
    assert training.unsaved
    training.unsaved = False
    training.observe(some)
    assert not training.unsaved


def test_a_successor_goes_on_where_the_state_ends() -> None:
    world = World()
    training = VersionTraining(CascadeState(version="v"), limits(), {}, world.clock)
    training.observe(world.seen(world.texts(1_300)))
    packed = fit(training)
    training.observe(world.seen(world.texts(100)))
    training.reached("id", 0, 17)
    training.reached("id", 0, 12)
    successor = again(training, world, packed)
    assert successor.memory.offsets == {}  # a topic that is gone
    training.reached("id", 0, 17)
    state = training.state({"id": {0: 3, 1: 8}})
    assert state.checkpoint["offsets"] == {"id": {"0": 17, "1": 8}}
    more = world.seen(world.texts(1_500))
    training.observe(more)
    successor.observe(more)
    assert successor.now_state.state == training.now_state.state == "certified"
    assert successor.now_state.threshold == training.now_state.threshold
    # The successor's proxy is missing: it learns anew, and never under the same number.
    lost = VersionTraining(state, limits(), {}, world.clock)
    assert lost.now_state.state == "learning"
    lost.observe(world.seen(world.texts(1_300)))
    lost.fitted(lesson(), packed)
    assert lost.state({}).generation == 2


def test_only_audited_texts_certify_and_watch_while_a_proxy_decides() -> None:
    world = World()
    training, packed = certified(world)
    rate = training.now_state.audit_rate
    assert rate == pytest.approx(0.1)
    texts = world.texts(400)
    training.observe(world.seen(texts))
    audited = sum(is_audited("v", text, rate) for text, _ in texts)
    assert 0 < training.now_state.audits <= audited < 80
    successor = again(training, world, packed)
    assert successor.now_state.audits == training.now_state.audits


def flip(world: World, training: VersionTraining, count: int) -> int:
    """The model calls one kind another from now on. Returns how many audits of the label it took."""
    audits = 0
    for text, label in world.texts(count):
        if label == "счёт" and is_audited("v", text, training.now_state.audit_rate):
            audits += 1
        training.observe(world.seen([(text, "связь" if label == "счёт" else label)]))
        if training.now_state.state != "certified":
            break
    return audits


def test_a_label_that_flips_is_revoked_and_all_since_its_last_clean_audit_is_repaired() -> None:
    world = World()
    training, packed = certified(world)
    training.observe(world.seen(world.texts(600)))
    began = world.now
    audits = flip(world, training, 6_000)
    state = training.now_state
    assert (state.state, state.threshold, state.decides) == ("revoked", None, False)
    assert audits <= 50
    assert "счёт" in state.revoked_why
    assert state.clean_until is not None
    assert state.clean_until.timestamp() <= world.now
    assert abs(state.clean_until.timestamp() - began) < 10
    assert training.proxies == ()
    assert not training.memory.repaired
    # What taught before teaches no more, and the next generation has another number.
    assert all(sight.at >= state.clean_until.timestamp() * SECOND - 1 for _, sight in training.sights)
    training.memory.repaired = True
    training.observe(world.seen(world.texts(5), "proxy", 1))
    assert not training.memory.repaired  # a worker that was late
    successor = again(training, world, packed)
    assert successor.now_state.state == "revoked"
    assert not successor.memory.repaired
    assert not successor.fit_due
    successor.observe(world.seen(world.texts(1_300)))
    assert successor.fit_due
    successor.fitted(lesson(), packed)
    assert successor.state({}).generation == training.memory.generation + 1
    assert successor.now_state.state == "learning"


def test_a_repair_that_waits_is_of_the_same_labels_whatever_becomes_of_the_cascade() -> None:
    world = World()
    training, packed = certified(world)
    flip(world, training, 6_000)
    since = training.now_state.clean_until
    assert since is not None
    assert training.memory.repair_since == pytest.approx(since.timestamp() * SECOND, abs=1)
    wanted = training.memory.repair_since
    world.now += 1.0
    training.begin_anew("wish")
    successor = again(training, world, packed)
    successor.observe(world.seen(world.texts(1_300)))
    successor.fitted(lesson(), packed)
    for _ in range(20):
        successor.observe(world.seen(world.texts(200)))
    assert successor.now_state.state == "certified"
    assert (successor.memory.repaired, successor.memory.repair_since) == (False, wanted)


def test_what_people_said_of_labels_that_no_longer_count_certifies_nothing() -> None:
    world = World()
    training, _ = certified(world)
    judged = [
        AuditedText(text_digest(one.text), one.text, one.label, one.label, one.at)
        for one in world.seen(world.texts(50))
    ]
    training.judge(judged)
    assert len(training.memory.judged) == 50
    world.now += 1.0
    training.begin_anew("wish")
    training.judge(judged)
    assert training.memory.judged == []


def test_a_person_may_begin_anew() -> None:
    world = World()
    training, _ = certified(world)
    world.now += 1.0
    training.begin_anew("wish")
    state = training.state({})
    assert (state.state, state.reset, state.proxy, len(training.sights)) == ("learning", "wish", None, 0)
    assert training.urgent


def test_a_first_fit_of_many_texts_leaves_out_the_generations_before() -> None:
    world = World()
    training = VersionTraining(CascadeState(version="v"), limits(), {}, world.clock)
    training.observe(world.seen(world.texts(2_600)))
    assert training.sights.teaching > fit_at(2)
    fit(training)
    assert (training.memory.generation, training.fit_due) == (1, False)


def test_the_audits_become_fewer_with_the_texts_a_second_and_the_delay_is_told() -> None:
    world = World()
    training, _ = certified(world)
    before = training.state({}).audit_rate
    for _ in range(40):
        training.observe(world.seen(world.texts(100)))
        world.now += 1.0
    state = training.state({})
    assert state.audit_rate < before
    assert state.delay_minutes is not None
    assert state.delay_minutes <= 480 * 1.3


def test_the_surest_texts_are_asked_twice_and_count_for_the_next_generation() -> None:
    world = World()
    training, packed = certified(world, deciding=False)
    training.observe(world.seen(world.texts(100)))
    asked = training.take_twice()
    surest = max(training.state({}).checkpoint["current"]["llm"]["thresholds"])
    decisions = lesson().proxy.decide([sight.text for sight in asked])
    assert asked
    assert all(lesson().score_of(one) >= surest for one in decisions)
    assert all(part_of("v", sight.text) == "teach" for sight in asked)
    assert training.take_twice() == []
    for at, sight in enumerate(asked):
        training.hear_twice(sight, None if at == 0 else "связь" if at % 2 else sight.label)
        training.hear_twice(sight, "once only")
    otherwise = sum(sight.label != "связь" for sight in asked[1::2])
    assert training.memory.twice == (len(asked) - 1, otherwise)
    for _ in range(20):
        training.observe(world.seen(world.texts(200)))
    more = training.take_twice()
    assert len(asked) - 1 + len(more) == most_twice(len(training.sights)) < 0.02 * 6_000
    assert most_twice(10**6) == 200
    state = training.state({})
    assert (state.asked_twice, state.differed_twice) == training.memory.twice

    assert training.memory.candidate is None
    fit(training)
    note = training.state({}).checkpoint["candidate"]
    assert note["llm"]["limit"] > 0.1
    assert state.checkpoint["current"]["llm"]["limit"] == pytest.approx(0.05)
    assert again(training, world, packed).memory.twice == training.memory.twice

    world.now += 1.0
    training.begin_anew("wish")
    training.hear_twice(more[0], "of what no longer counts")
    assert training.memory.twice == (0, 0)


def test_texts_that_came_to_the_model_at_a_lower_rate_certify_nothing_after_it_rose() -> None:
    world = World()
    training, packed = certified(world)
    for _ in range(40):  # so many a second that few are audited
        training.observe(world.seen(world.texts(100)))
        world.now += 0.1
        training.state({})
    least = training.certain_rate
    assert least < 0.1
    world.now += 4_000.0
    training.observe(world.seen(world.texts(1)))
    assert training.state({}).audit_rate > least
    successor = again(training, world, packed)
    for one in (training, successor):
        before, audits = rows_of(one), one.now_state.audits
        some = [
            (text, label)
            for text, label in world.texts(2_000)
            if is_audited("v", text, one.now_state.audit_rate) and not is_audited("v", text, least)
        ]
        one.observe(world.seen(some))
        assert some
        assert rows_of(one) == before
        assert one.now_state.audits > audits  # but they are audits
