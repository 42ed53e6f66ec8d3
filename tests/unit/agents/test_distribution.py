"""From tokens to a distribution: every way in which a tokenizer may cut a label."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.distribution import choice_distribution, letter_in, of_choice, of_object
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


def test_what_is_on_tokens_that_are_no_label_is_not_given_to_the_labels() -> None:
    tokens = [
        Token('{"label": "'),
        Token("delivery", {"I": 0.7, "delivery": 0.2, "payment": 0.05, "\n": 0.05}),
        Token('"}'),
    ]
    assert spread(tokens, "delivery") == pytest.approx({"delivery": 0.2, "payment": 0.05})


def test_labels_of_several_tokens() -> None:
    """d|eliver|y and d|ocuments: the first token decides against payment, the second between the two."""
    tokens = [
        Token('{"label":"'),
        Token("d", {"d": 0.8, "pay": 0.2}),
        Token("eliver", {"eliver": 0.75, "ocu": 0.25}),
        Token("y", {"y": 0.9, "ies": 0.1}),
        Token('"}'),
    ]
    found = spread(tokens, "delivery")
    assert found == pytest.approx({"delivery": 0.54, "documents": 0.2, "payment": 0.2})


def test_tokens_that_hold_more_than_the_label() -> None:
    tokens = [
        Token('{"label'),
        Token('": "del', {'": "del': 0.9, '": "pay': 0.1}),
        Token('ivery"}', {'ivery"}': 1.0}),
    ]
    assert spread(tokens, "delivery") == pytest.approx({"delivery": 0.9, "payment": 0.1})


def test_other_cuts_of_the_label_count_where_they_are_told_to_its_end() -> None:
    tokens = [
        Token('{"label": "'),
        Token("del", {"del": 0.4, " delivery": 0.1, "deliv": 0.2, "ref": 0.2, " refund": 0.1}),
        Token("ivery"),
        Token('"'),
    ]
    assert spread(tokens, "delivery") == pytest.approx({"delivery": 0.5, "refund": 0.3})


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


def test_a_token_that_may_begin_two_labels_tells_nothing_about_either() -> None:
    tokens = [Token('{"label": "'), Token("delivery", {"delivery": 0.5, "d": 0.5}), Token('"')]
    assert spread(tokens, "delivery") == pytest.approx({"delivery": 0.5})


def test_without_alternatives_the_probability_itself_is_the_confidence() -> None:
    tokens = [Token('{"label": "'), Token("delivery", {"delivery": 0.6}), Token('"')]
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
    assert chances == pytest.approx({"delivery": 0.6, "payment": 0.2, "refund": 0.1})
    assert of_choice(None, options) == ({}, 0.0)
    assert of_choice([], options) == ({}, 0.0)
    assert of_choice([Token("The", {"The": 1.0})], options) == ({}, 0.0)
    blank = Token(" ", {" ": 0.5, "B": 0.25})
    assert of_choice([blank, token], options)[0] == pytest.approx(
        {"delivery": 0.3, "payment": 0.1, "refund": 0.05}
    )
    assert of_choice([blank], options) == ({}, 0.0)


@pytest.mark.parametrize("text", ["A", " A", "A.", '"A"', "a", "**A**", "A)\n", "(A)", "A) Доставка", "A. x"])
def test_a_letter_is_known_in_what_surrounds_it(text: str) -> None:
    assert letter_in(text) == "A"


@pytest.mark.parametrize("text", ["", "<", "I cannot", "AB", "A, B", "Ответ: A", "А", "1", "A B"])
def test_other_text_is_no_letter(text: str) -> None:
    assert letter_in(text) == ""


@dataclass
class Told:
    """A token as an endpoint may report it, whether or not the numbers are probabilities."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@pytest.mark.parametrize(
    "token",
    [
        Told("delivery", -math.inf, (("refund", -0.1),)),
        Told("delivery", -9999.0, (("refund", -0.1),)),  # OpenAI's, for a token below the first twenty
        Told(
            "delivery", 14.25, (("delivery", 14.25), ("refund", 9.5))
        ),  # vLLM with --logprobs-mode raw_logits
        Told("delivery", 0.0, (("delivery", 0.0), ("refund", 0.0))),  # a gateway that makes them up
    ],
)
def test_numbers_that_are_no_probabilities_tell_nothing(token: Told) -> None:
    tokens = [Told('{"label":"', 0.0), token, Told('"}', 0.0)]
    assert of_object(tokens, "delivery", NAMES) == (None, ())
    letter = Told("A", token.logprob, tuple((text[0].upper(), told) for text, told in token.top))
    chances, _ = of_choice([letter], {"D": "delivery", "A": "other"})
    assert choice_distribution(chances, "other") == (None, ())


def test_a_label_in_other_case_is_told_by_its_own_tokens() -> None:
    tokens = [
        Token('{"label": "'),
        Token("RE", {"RE": 0.6, "re": 0.1, "PAY": 0.2}),
        Token("FUND", {"FUND": 0.5}),
        Token('"}'),
    ]
    assert of_object(tokens, "refund", NAMES, "REFUND") == (0.3, (("payment", 0.2),))
    assert of_object(tokens, "refund", NAMES, "Возврат") == (None, ())


def test_a_label_that_is_cut_off_before_it_is_clear_is_told_nothing_of() -> None:
    names = ("card", "card_block")
    tokens = [Token('{"label": "'), Token("card", {"card": 0.9})]
    assert of_object(tokens, "card", names) == (None, ())


def test_a_way_on_that_need_not_end_with_the_label_tells_nothing_of_it() -> None:
    tokens = [
        Token('{"label":"'),
        Token("paymen", {"paymen": 0.8}),
        Token("t", {"t": 0.5, "t:": 0.25, 't":': 0.0625, 't"': 0.125}),
        Token('"}'),
    ]
    assert of_object(tokens, "payment", NAMES) == (0.5, ())


pieces = st.text(alphabet='{}"label: deivrypaymnt_\n', max_size=6)


def told_for(tokens: list[Token], label: str) -> float:
    """The probability of every told way to write the label: along the answer up to some token, and then an
    alternative that finishes it.
    """
    total, share, done = 0.0, 1.0, ""
    for token in tokens:
        for text, told in token.top:
            written = (done + text).lstrip(" ")
            if text != token.token and written.startswith(label) and not written[len(label) :].strip('" }\n'):
                total += share * math.exp(told)
        share *= math.exp(token.logprob)
        done += token.token
        if done.startswith(label):
            return total + share
    return total


@st.composite
def answers(draw: st.DrawFn) -> tuple[str, list[Token]]:
    """A label in pieces, at each of which other pieces are told, never with more than 1 in all."""
    label = draw(st.sampled_from(NAMES))
    tokens, rest = [], label
    while rest:
        cut = draw(st.integers(1, len(rest)))
        others = draw(
            st.dictionaries(
                st.sampled_from([rest, " " + rest, *NAMES, "d", "de", "pay", "I", "\n", ""]) | pieces,
                st.floats(1e-9, 1),
                max_size=6,
            )
        )
        weights = {rest[:cut]: draw(st.floats(1e-9, 1))}
        weights = {**others, **weights}
        kept = draw(st.floats(0.01, 1)) / sum(weights.values())  # the rest is not told
        tokens.append(Token(rest[:cut], {text: weight * kept for text, weight in weights.items()}))
        rest = rest[cut:]
    return label, tokens


@given(answers())
def test_no_confidence_is_above_what_was_told_for_the_label(answer: tuple[str, list[Token]]) -> None:
    label, tokens = answer
    confidence, others = of_object([Token('{"label":"'), *tokens, Token('"}')], label, NAMES)
    assert confidence is not None
    assert confidence <= told_for(tokens, label) + 1e-6
    first = dict.fromkeys(NAMES, 0.0)
    for name, chance in others:
        assert 0 < chance <= 1
        first[name] = chance
    assert confidence + sum(first.values()) <= 1 + 1e-6


@given(st.dictionaries(st.sampled_from(["A", " A", "a", "B", "C)", "The", "", "\n", "AB"]), st.floats(0, 1)))
def test_no_choice_is_above_what_was_told_for_its_letter(weights: dict[str, float]) -> None:
    chances = {text: weight / max(1.0, sum(weights.values())) for text, weight in weights.items()} | {}
    token = Token("B", {"B": 0.0} | chances) if chances.get("B") else Token("The", {"The": 1e-3})
    found, mass = of_choice([token], {"A": "delivery", "B": "payment", "C": "refund"})
    told = {text: math.exp(logprob) for text, logprob in token.top}
    for label, letters in (("delivery", ("A", " A", "a")), ("payment", ("B",)), ("refund", ("C)",))):
        confidence = choice_distribution(found, label)[0]
        assert (confidence or 0.0) <= sum(told.get(letter, 0.0) for letter in letters) + 1e-6
        assert (confidence is None) == (label not in found)
    assert mass <= 1


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
    assert (confidence or 0) + sum(chance for _, chance in others) <= 1 + 1e-2
