"""What servers report, recorded or by their documentation: no confidence is above what was told."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from agents.distribution import choice_distribution, letter_in, of_choice, of_object
from agents.prompting import parse_answer
from connectors.llm.answer import completion_in
from tests.unit.agents.fakes import REPOSITORY, taxonomy

EXCHANGES = json.loads((REPOSITORY / "tests/data/llm_exchanges.json").read_text("utf-8"))
LETTERS = {letter: letter for letter in "ABCDEFGHIJKL"}


@pytest.mark.parametrize("exchange", EXCHANGES, ids=lambda one: f"{one['server']}: {one['source']}")
def test_the_confidence_is_what_was_told_for_the_label(exchange: dict[str, Any]) -> None:
    answer = completion_in(json.dumps(exchange["response"]).encode())
    label = exchange["label"]
    if exchange["mode"] == "choice":
        assert letter_in(answer.text) == (label or "")
        chances, mass = of_choice(answer.tokens, LETTERS)
        confidence, others = choice_distribution(chances, label)
        assert mass <= 1
    else:
        assert parse_answer(answer.text, "label") == label
        confidence, others = of_object(answer.tokens, label, taxonomy().names)
    assert confidence == (
        None if exchange["confidence"] is None else pytest.approx(exchange["confidence"], abs=2e-6)
    )
    told = _told(exchange["response"])
    assert (confidence or 0.0) + sum(chance for _, chance in others) <= told + 1e-6


def _told(response: dict[str, Any]) -> float:
    """The probability that was told, at the token that tells least."""
    entries = (response["choices"][0].get("logprobs") or {}).get("content") or []
    least = 1.0
    for entry in entries:
        tops = entry.get("top_logprobs", entry.get("top_probs"))
        chances = {
            one["token"]: one["prob"] if "prob" in one else math.exp(min(one["logprob"], 0.0))
            for one in [*tops, entry]
        }
        if len(chances) > 1:
            least = min(least, sum(chances.values()))
    return least if entries else 0.0
