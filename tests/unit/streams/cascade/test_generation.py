"""What a generation may label, and from which score on."""

from __future__ import annotations

import random

import pytest

from streams.cascade.generation import Generation, LabeledText, learn

KINDS = {
    "payment": ("оплатить", "счёт", "карта", "платёж"),
    "delivery": ("доставка", "курьер", "посылка", "адрес"),
    "access": ("пароль", "войти", "логин", "код"),
    "other": ("погода", "шутка", "привет", "спасибо"),
}


def texts(number: int, seed: int = 1) -> list[LabeledText]:
    drawn = random.Random(seed)
    labels = [drawn.choice(sorted(KINDS)) for _ in range(number)]
    return [
        LabeledText(f"{' '.join(drawn.choices(KINDS[one], k=3))} {at}", one) for at, one in enumerate(labels)
    ]


@pytest.fixture(scope="module")
def generation() -> Generation:
    few = [LabeledText(f"возврат денег {at}", "refund") for at in range(5)]
    flipping = [LabeledText(f"тариф скорость {at}", ("access", "tariff")[at % 2]) for at in range(60)]
    return learn(texts(400) + few + flipping)


def test_leaves_other_rare_and_bad_labels_to_the_model(generation: Generation) -> None:
    assert generation.vetoed >= {"other", "refund"}
    assert not generation.vetoed & {"payment", "delivery"}
    decisions = generation.proxy.decide(["шутка привет погода", "оплатить счёт"])
    assert [decision.label for decision in decisions] == ["other", "payment"]
    assert generation.score_of(decisions[0]) == 0.0
    assert generation.score_of(decisions[1]) == decisions[1].score


def test_thresholds_descend_as_more_is_routed(generation: Generation) -> None:
    for cuts in (generation.for_people, generation.for_llm):
        assert list(cuts) == sorted(set(cuts), reverse=True)
        shares = [generation.coverage[cut] for cut in cuts]
        assert shares == sorted(shares)
    assert 0.2 < generation.coverage[generation.for_llm[0]] < 0.35  # equal scores are on one side


def test_the_same_texts_in_any_order_give_the_same_generation() -> None:
    some = texts(120)
    again = learn(random.Random(2).sample(some, len(some)))
    first = learn(some)
    assert again.proxy.pack() == first.proxy.pack()
    assert (again.for_people, again.coverage) == (first.for_people, first.coverage)
