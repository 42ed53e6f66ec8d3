"""What a proxy decides depends on the text alone."""

from __future__ import annotations

import random

import pytest

from agents.proxy.classifier import MOST_BYTES, Proxy
from agents.proxy.fit import fit, fit_and_try
from streams.core.errors import UndecodableError

WORDS = {
    "payment": ("оплатить", "счёт", "карта", "платёж"),
    "delivery": ("доставка", "курьер", "посылка", "адрес"),
    "access": ("пароль", "войти", "логин", "код"),
}


def queries(number: int, seed: int = 1) -> tuple[list[str], list[str]]:
    drawn = random.Random(seed)
    labels = [drawn.choice(sorted(WORDS)) for _ in range(number)]
    return [
        f"{' '.join(drawn.choices(WORDS[label], k=3))} {drawn.randrange(9999)}" for label in labels
    ], labels


@pytest.fixture(scope="module")
def proxy() -> Proxy:
    return fit(*queries(200))


def test_decides_the_same_alone_and_in_any_batch(proxy: Proxy) -> None:
    texts = [*queries(70, seed=3)[0], "", "x", "ё" * 5000, "Ⅷ  ПЛАТЁЖ"]
    together = proxy.decide(texts)
    assert together == [proxy.decide([text])[0] for text in texts]
    assert together[::-1] == proxy.decide(texts[::-1])


def test_labels_texts_like_those_it_was_taught(proxy: Proxy) -> None:
    texts, labels = queries(60, seed=4)
    decisions = proxy.decide(texts)
    assert [one.label for one in decisions] == labels
    assert all(0.5 < one.score <= 1 for one in decisions)
    assert sum(one.known for one in decisions) > 50


def test_does_not_know_other_texts_or_very_long_ones(proxy: Proxy) -> None:
    decisions = proxy.decide(["where is my refund", "", queries(1)[0][0] * 200])
    assert [one.known for one in decisions] == [False, False, False]


def test_the_same_labels_in_any_order_give_the_same_bytes() -> None:
    texts, labels = queries(80)
    order = random.Random(5).sample(range(80), 80)
    other = fit([texts[at] for at in order], [labels[at] for at in order])
    assert fit(texts, labels).pack() == other.pack()


def test_packed_it_decides_the_same(proxy: Proxy) -> None:
    packed = proxy.pack()
    again = Proxy.unpack(packed)
    assert again.pack() == packed
    assert len(packed) <= MOST_BYTES
    texts = queries(50, seed=6)[0]
    assert again.decide(texts) == proxy.decide(texts)


@pytest.mark.parametrize("damage", [b"", b"nothing", b"lsproxy2" + b"0" * 99])
def test_refuses_what_is_no_proxy(damage: bytes) -> None:
    with pytest.raises(UndecodableError, match="proxy cannot be read"):
        Proxy.unpack(damage)


def test_refuses_a_damaged_one(proxy: Proxy) -> None:
    packed = bytearray(proxy.pack())
    packed[len(packed) // 2] ^= 1
    with pytest.raises(UndecodableError, match="digest"):
        Proxy.unpack(bytes(packed))


def test_explains_by_the_ngrams_of_the_label(proxy: Proxy) -> None:
    spoke = proxy.spoke_for("новый пароль", "access")
    assert any("парол" in gram or "пар" in gram for gram, _ in spoke)
    assert [added for _, added in spoke] == sorted((added for _, added in spoke), reverse=True)


def test_each_label_is_once_unknown_where_there_are_enough() -> None:
    texts = [f"{kind}{kind} вопрос {at}" for kind in "абвгде" for at in range(8)]
    labels = [kind for kind in "абвгде" for _ in range(8)]
    strangers = fit_and_try(texts, labels).strangers
    assert len(strangers) == len(texts)
    assert fit_and_try(*queries(40)).strangers == ()
