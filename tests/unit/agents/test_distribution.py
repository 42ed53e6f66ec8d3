"""From tokens to a distribution: every way in which a tokenizer may cut a label."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.distribution import letter_in, of_choice, of_object
from tests.unit.agents.fakes import Token

NAMES = ("delivery", "documents", "payment", "refund", "other")


def spread(tokens: list[Token], label: str, names: tuple[str, ...] = NAMES) -> dict[str, float]:
    confidence, others = of_object(tokens, label, names)
    assert confidence is not None
    found = {label: confidence, **dict(others)}
    assert sum(found.values()) <= 1 + 1e-4
    return found


def test_without_logprobs_nothing_is_known() -> None:
    assert of_object(None, "delivery", NAMES) == (None, ())
    assert of_object([], "delivery", NAMES) == (None, ())
    assert of_object([Token("no such thing")], "delivery", NAMES) == (None, ())


def test_one_token_a_label() -> None:
    tokens = [
        Token('{"', {'{"': 0.5, "Sure": 0.5}),
        Token("label"),
        Token('":"'),
        Token("delivery", {"delivery": 0.6, "payment": 0.3, "refund": 0.1}),
        Token('"}', {'"}': 1.0}),
    ]
    assert spread(tokens, "delivery") == pytest.approx({"delivery": 0.6, "payment": 0.3, "refund": 0.1})


def test_logprobs_before_the_mask_are_renormalised_over_the_labels() -> None:
    tokens = [
        Token('{"label": "'),
        Token("delivery", {"I": 0.7, "delivery": 0.2, "payment": 0.05, "\n": 0.05}),
        Token('"}'),
    ]
    assert spread(tokens, "delivery") == pytest.approx({"delivery": 0.8, "payment": 0.2})


def test_labels_of_several_tokens() -> None:
    """d|eliver|y and d|ocuments: the first token decides against payment, the second between the two."""
    tokens = [
        Token('{"label":"'),
        Token("d", {"d": 0.8, "pay": 0.2}),
        Token("eliver", {"eliver": 0.75, "ocu": 0.25}),
        Token("y", {"y": 1.0, "ies": 0.5}),
        Token('"}'),
    ]
    found = spread(tokens, "delivery")
    assert found == pytest.approx({"delivery": 0.6, "documents": 0.2, "payment": 0.2})


def test_tokens_that_hold_more_than_the_label() -> None:
    tokens = [
        Token('{"label'),
        Token('": "del', {'": "del': 0.9, '": "pay': 0.1}),
        Token('ivery"}', {'ivery"}': 1.0}),
    ]
    assert spread(tokens, "delivery") == pytest.approx({"delivery": 0.9, "payment": 0.1})


def test_leading_spaces_and_other_cuts_of_the_same_label_add_up() -> None:
    tokens = [
        Token('{"label": "'),
        Token("del", {"del": 0.4, " del": 0.1, "deliv": 0.2, "ref": 0.2, " refund": 0.1}),
        Token("ivery"),
        Token('"'),
    ]
    assert spread(tokens, "delivery") == pytest.approx({"delivery": 0.7, "refund": 0.3})


def test_a_label_that_begins_another_is_told_by_the_token_after_it() -> None:
    names = ("card", "card_block", "other")
    short = [
        Token('{"label": "'),
        Token("card", {"card": 0.9, "other": 0.1}),
        Token('"}', {'"}': 0.7, "_block": 0.3}),
    ]
    assert spread(short, "card", names) == pytest.approx({"card": 0.63, "card_block": 0.27, "other": 0.1})
    long = [
        Token('{"label": "'),
        Token("card", {"card": 0.9, "other": 0.1}),
        Token("_block", {"_block": 0.6, '"': 0.2, '"}': 0.2}),
        Token('"}'),
    ]
    assert spread(long, "card_block", names) == pytest.approx(
        {"card_block": 0.54, "card": 0.36, "other": 0.1}
    )


def test_a_token_that_may_begin_two_labels_is_divided_between_them() -> None:
    tokens = [Token('{"label": "'), Token("delivery", {"delivery": 0.5, "d": 0.5}), Token('"')]
    assert spread(tokens, "delivery") == pytest.approx({"delivery": 0.75, "documents": 0.25})


def test_without_alternatives_the_probability_itself_is_the_confidence() -> None:
    tokens = [Token('{"label": "'), Token("deliv", {"deliv": 0.6}), Token("ery", {"ery": 0.5}), Token('"')]
    assert spread(tokens, "delivery") == pytest.approx({"delivery": 0.6})
    tokens = [Token('{"label": "'), Token("d", {"d": 0.5}), Token("elivery", {"elivery": 0.5}), Token('"')]
    assert spread(tokens, "delivery") == pytest.approx({"delivery": 0.25})


def test_the_last_object_counts_and_not_what_a_model_thought_before() -> None:
    tokens = [
        Token('<think>{"label": "'),
        Token("delivery", {"delivery": 0.9, "refund": 0.1}),
        Token('"}?</think>{"label": "'),
        Token("delivery", {"delivery": 0.5, "payment": 0.5}),
        Token('"}'),
    ]
    assert spread(tokens, "delivery") == pytest.approx({"delivery": 0.5, "payment": 0.5})


def test_the_choice_of_a_letter() -> None:
    options = {"A": "delivery", "B": "payment", "C": "refund"}
    token = Token("A", {"A": 0.4, " A": 0.1, "B": 0.2, "a": 0.1, "C.": 0.1, "The": 0.1})
    chances, mass = of_choice([token], options)
    assert mass == pytest.approx(0.9)
    assert chances == pytest.approx({"delivery": 0.6 / 0.9, "payment": 0.2 / 0.9, "refund": 0.1 / 0.9})
    assert of_choice(None, options) == ({}, 0.0)
    assert of_choice([Token("The", {"The": 1.0})], options) == ({}, 0.0)


@pytest.mark.parametrize("text", ["A", " A", "A.", '"A"', "a", "**A**", "A)\n"])
def test_a_letter_is_known_in_what_surrounds_it(text: str) -> None:
    assert letter_in(text) == "A"


pieces = st.text(alphabet='{}"label: deivrypaymnt_\n', max_size=6)


@given(
    st.lists(st.tuples(pieces, st.dictionaries(pieces, st.floats(0, 1), max_size=5)), max_size=8),
    st.sampled_from(NAMES),
)
def test_whatever_the_tokens_it_is_a_distribution_or_nothing(
    parts: list[tuple[str, dict[str, float]]], label: str
) -> None:
    tokens = [Token(text, {**chances, text: chances.get(text, 0.5) or 0.5}) for text, chances in parts]
    tokens.insert(0, Token('{"label": "'))
    tokens.append(Token(label, {label: 0.5, "other": 0.25}))
    confidence, others = of_object(tokens, label, NAMES)
    assert confidence is None or 0 <= confidence <= 1
    assert all(0 < chance <= 1 and name in NAMES and name != label for name, chance in others)
    assert (confidence or 0) + sum(chance for _, chance in others) <= 1 + 1e-4
