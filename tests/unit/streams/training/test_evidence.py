"""What certifies a generation counts once and as it is now, whatever its order, and after restarts."""

from __future__ import annotations

import functools
import random

from hypothesis import given
from hypothesis import strategies as st

from streams.cascade.certificate import Certificate, loss_to_people, risk_of
from streams.core.cascade import CascadeState
from streams.training.generations import AuditedText
from streams.training.sights import Seen, Sight, text_digest
from streams.training.version_training import VersionTraining
from tests.unit.streams.training.test_version_training import WORDS, World, again, fit, lesson, limits

RISK, MARGIN = 0.05, 0.01
ROWS = 500
SHUFFLED = st.integers(0, 2**32).map(random.Random)


@functools.cache
def learning() -> tuple[str, bytes, tuple[AuditedText, ...]]:
    """The state of a cascade that is about to be certified, its proxy, and what people say of its texts: the
    model errs in a seventh, and is never agreed with often enough.
    """
    world, chance = World(), random.Random(4)

    def erring(label: str) -> str:
        return chance.choice(list(WORDS)) if chance.random() < 0.2 else label

    training = VersionTraining(CascadeState(version="v"), limits(), {}, world.clock)
    training.observe(world.seen([(text, erring(label)) for text, label in world.texts(1_300)]))
    packed = fit(training)
    rows = [(text, erring(label), label) for text, label in world.texts(ROWS)]
    seen = world.seen([(text, said) for text, said, _ in rows])
    training.observe(seen)
    assert training.now_state.state == "learning"
    answers = [
        AuditedText(text_digest(text), text, said, label, one.at)
        for (text, said, label), one in zip(rows, seen, strict=True)
    ]
    return training.state({}).model_dump_json(), packed, tuple(answers)


def begun() -> VersionTraining:
    state, packed, _ = learning()
    return VersionTraining(
        CascadeState.model_validate_json(state), limits(deciding=False), {1: packed}, World().clock
    )


def restarted(training: VersionTraining) -> VersionTraining:
    state = CascadeState.model_validate_json(training.state({}).model_dump_json())
    return VersionTraining(state, limits(deciding=False), {1: learning()[1]}, World().clock)


def people_at(training: VersionTraining) -> float | None:
    training.state({})
    assert training.memory.current is not None
    return training.memory.current.people_at


def by_hand(answers: list[AuditedText]) -> Certificate:
    """The certificate of these answers alone, in this order."""
    training = begun()
    assert training.memory.current is not None
    certificate = Certificate.new("people", training.memory.current.for_people, MARGIN, risk_of(RISK, 1))
    for one, decision in zip(answers, lesson().proxy.decide([one.text for one in answers]), strict=True):
        loss = loss_to_people(one.label, decision.label, one.person) if one.person is not None else 0
        certificate = certificate.observe(lesson().score_of(decision), loss)
    return certificate


@given(
    order=SHUFFLED,
    sizes=st.lists(st.integers(1, 300), min_size=1, max_size=6),
    restarts=st.sets(st.integers(0, 6)),
)
def test_answers_out_of_order_repeated_and_over_restarts_count_once(
    order: random.Random, sizes: list[int], restarts: set[int]
) -> None:
    coming = list(learning()[2])
    order.shuffle(coming)
    training, known = begun(), 0
    for number, size in enumerate(sizes):
        old, new = coming[:known], coming[known : known + size]
        known += len(new)
        order.shuffle(old)
        training.judge([*old, *new, *new[: size // 2]])
        if number in restarts:
            training = restarted(training)
    training.judge(coming[:known])
    assert training.memory.judged == [one.digest for one in coming[:known]]
    assert people_at(training) == by_hand(coming[:known]).threshold


@given(chance=SHUFFLED, wrong=st.floats(0, 1), restart=st.booleans())
def test_corrected_answers_count_as_they_are_now(chance: random.Random, wrong: float, restart: bool) -> None:
    right = list(learning()[2])
    corrected = [
        one._replace(person=chance.choice([one.label, None])) if chance.random() < wrong else one
        for one in right
    ]
    training = begun()
    training.judge(right)
    assert people_at(training) is not None
    if restart:
        training = restarted(training)
    training.judge(corrected)
    assert people_at(training) == by_hand(corrected).threshold
    training.judge(right)
    assert people_at(training) == by_hand(right).threshold


@given(chance=SHUFFLED, left=st.integers(0, ROWS - 1), restart=st.booleans())
def test_erased_answers_end_nothing_unless_the_others_speak_against_it(
    chance: random.Random, left: int, restart: bool
) -> None:
    training, whole = begun(), list(learning()[2])
    training.judge(whole)
    certified = people_at(training)
    if restart:
        training = restarted(training)
    rest = chance.sample(whole, left)
    training.judge(rest)
    assert people_at(training) is not None
    # Whoever is left now says that only the model is right.
    against = [one._replace(person=one.label) for one in rest if one.label != one.person]
    training.judge(against)
    if len(against) > 20:
        assert people_at(training) is None
    training.judge(whole)
    assert people_at(training) == certified


@given(
    chance=SHUFFLED,
    cuts=st.lists(st.integers(1, 399), max_size=5),
    restart=st.booleans(),
)
def test_labels_in_whatever_pieces_and_repeated_bet_once(
    chance: random.Random, cuts: list[int], restart: bool
) -> None:
    world = World()
    world.now += 10_000.0
    seen = world.seen([(f"{text} ещё", label) for text, label in world.texts(400)])
    whole, pieces = begun(), begun()
    whole.observe(seen)
    begins = [0, *sorted(cuts)]
    for begin, end in zip(begins, [*begins[1:], len(seen)], strict=True):
        again_seen = chance.sample(seen[:begin], min(begin, 20))
        pieces.observe([*again_seen, *seen[begin:end]])
        if restart:  # what was observed is read from the tables
            pieces = restarted(pieces)
            pieces.remember(sight_of(one) for one in seen[:end])
    wanted = whole.state({}).checkpoint["current"]["llm"]
    assert wanted["rows"] > 400
    assert pieces.state({}).checkpoint["current"]["llm"] == wanted


def sight_of(seen: Seen) -> Sight:
    return Sight(seen.text, seen.label, seen.at, seen.drawn, True)


@given(steps=st.lists(st.sampled_from(["fit", "restart", "reset", "retire"]), min_size=1, max_size=12))
def test_all_generations_together_have_no_more_risk_than_allowed(steps: list[str]) -> None:
    world = World()
    training = VersionTraining(CascadeState(version="v"), limits(), {}, world.clock)
    some, packed = world.seen(world.texts(40)), lesson().proxy.pack()
    spent: dict[int, float] = {}
    for step in steps:
        if step == "fit":
            training.observe(some)
            training.fitted(lesson(), packed)
            training.state({})
            note = training.memory.candidate or training.memory.current
            assert note is not None
            assert note.proxy.generation not in spent
            # Of the other kind, and what the bound of its limit takes of this one's.
            spent[note.proxy.generation] = 2 * risk_of(RISK, note.proxy.generation)
            assert note.llm.risk <= spent[note.proxy.generation] / 2
        elif step == "restart":
            training = again(training, world, packed)
        elif step == "reset":
            world.now += 1.0
            training.begin_anew(str(world.now))
            some = world.seen(world.texts(40))
        else:
            training.retire()
    assert sum(spent.values()) <= RISK
    assert sorted(spent) == list(range(1, len(spent) + 1))


@given(
    losses=st.lists(st.tuples(st.floats(0, 1), st.sampled_from([-1, 0, 0, 0, 1])), max_size=60),
    good=st.integers(0, 700),
)
def test_what_was_certified_once_stays_tested_and_only_its_use_ends(
    losses: list[tuple[float, int]], good: int
) -> None:
    certificate = Certificate.new("people", (0.9, 0.7, 0.5, 0.3), MARGIN, 0.02)
    for at in range(good):
        certificate = certificate.observe(at % 10 / 10, -(at % 5 == 4))
    for score, loss in losses:
        before = certificate
        certificate = certificate.observe(score, loss)
        assert certificate.certified >= before.certified
        if certificate.threshold is not None:
            assert certificate.threshold in certificate.thresholds[: certificate.certified]
