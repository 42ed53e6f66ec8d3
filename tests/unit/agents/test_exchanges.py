"""What servers report, recorded or by their documentation: no confidence is above what was told."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest
import structlog
from aiohttp import web

from agents.distribution import choice_distribution, letter_in, of_choice, of_object
from agents.label import make_labeler
from agents.prompting import parse_answer
from connectors.llm.answer import completion_in, likeliest
from streams.core.environment import load
from streams.core.outcomes import Done
from tests.unit.agents.fakes import REPOSITORY, NoMemory, row, taxonomy
from tests.unit.connectors.llm.fakes import client_of, serving

EXCHANGES = json.loads((REPOSITORY / "tests/data/llm_exchanges.json").read_text("utf-8"))
LETTERS = {letter: letter for letter in "ABCDEFGHIJKL"}


@pytest.mark.parametrize("exchange", EXCHANGES, ids=lambda one: f"{one['server']}: {one['source']}")
def test_the_confidence_is_what_was_told_for_the_label(exchange: dict[str, Any]) -> None:
    answer = completion_in(json.dumps(exchange["response"]).encode())
    label = exchange["label"]
    if exchange["mode"] == "choice":
        if "sampled" in exchange["source"]:
            answer = likeliest(answer, [*LETTERS])
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


class LlamaServer:
    """Answers as it was recorded: a schema is held, `structured_outputs` is not known. ``grammar``: held;
    ``after``: `post_sampling_probs` is known as well. Then it samples among the letters, as its source does:
    the temperature, and samplers that are on by default, leave probabilities only to those that they keep.
    """

    def __init__(self, *, grammar: bool, after: bool) -> None:
        self.grammar = grammar
        self.after = after
        self.by_mode = {one["mode"]: one["response"] for one in EXCHANGES if "recorded" in one["source"]}

    def __call__(self, body: dict[str, Any], _: web.BaseRequest) -> dict[str, Any]:
        if "response_format" in body:
            return self.by_mode["json"]
        free = copy.deepcopy(self.by_mode["choice"])
        if self.grammar and "grammar" in body:
            choice = free["choices"][0]
            choice["message"]["content"] = "G"
            # Its own logprob is told, although it is not among the first; those are before the grammar.
            choice["logprobs"] = {"content": [{"token": "G", "bytes": [71], "logprob": -7.25}]}
            choice["logprobs"]["content"][0]["top_logprobs"] = self._free_tops()
            if self.after and body.get("post_sampling_probs"):
                choice["message"]["content"] = "K"  # sampled
                choice["logprobs"] = {"content": [self._sampled(body)]}
            if not body.get("logprobs"):
                del choice["logprobs"]
        return free

    def _free_tops(self) -> Any:
        return self.by_mode["choice"]["choices"][0]["logprobs"]["content"][0]["top_logprobs"]

    def _sampled(self, body: dict[str, Any]) -> dict[str, Any]:
        chances = {"A": 0.1, "G": 0.6, "K": 0.3}
        if body.get("temperature", 0.8) == 0 or body.get("samplers") != ["temperature"]:
            chances = {"K": 1.0}
        elif {option for option, _ in body.get("logit_bias", [])} < set(chances):
            # Before the grammar, because the sampled token fits.
            chances = {"<": 0.9} | {letter: chance / 10 for letter, chance in chances.items()}
        tops = [{"id": 1, "token": letter, "prob": chance} for letter, chance in chances.items()]
        return {"id": 1, "token": "K", "bytes": [75], "prob": chances["K"], "top_probs": tops}


@pytest.mark.parametrize(
    ("grammar", "after", "told"), [(False, False, 1e-10), (True, False, math.exp(-7.25)), (True, True, 0.6)]
)
async def test_choice_on_llama_server_is_one_call_a_row_and_as_sure_as_was_told(
    grammar: bool, after: bool, told: float
) -> None:
    async with serving(LlamaServer(grammar=grammar, after=after)) as there, client_of(there.url) as client:
        there.owner = "llamacpp"
        with structlog.testing.capture_logs() as logs:
            settings = load({"LLM_LABELER_MODE": "choice"}, None)
            step, _ = await make_labeler(settings, client, taxonomy(), NoMemory())
            before = len(there.asked)
            outcomes = [await step(row(f"вопрос {number}")) for number in range(20)]
    assert len(there.asked) == before + 20
    labels = [outcome.message for outcome in outcomes if isinstance(outcome, Done)]
    assert len(labels) == 20
    assert all(one.confidence is not None and one.confidence <= told + 1e-6 for one in labels)
    if after:
        assert all(one.confidence == pytest.approx(0.6) and len(one.alternatives) == 2 for one in labels)
    warnings = [one["event"] for one in logs if one["log_level"] == "warning"]
    assert len(warnings) == (0 if grammar else 1)
    assert there.asked[-1]["max_tokens"] == (1 if grammar else 60)
