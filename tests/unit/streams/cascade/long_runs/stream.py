"""A stream of distinct texts through a cascade, without Kafka: who labels which, and who was right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from agents.proxy.audited import is_audited
from streams.cascade.audit_rate import MOST
from streams.cascade.certificate import AskedTwice, Certificate, loss_to_people, risk_of
from streams.cascade.generation import Generation, LabeledText, learn
from streams.cascade.shares import fit_at, is_asked_twice, most_twice, part_of

VERSION = "v1"
MARGIN, RISK = 0.01, 0.05
_BLOCK = 50

Strings = NDArray[np.str_]


@dataclass(frozen=True)
class Texts:
    """Distinct texts in the order in which they come. ``model``: its labels; ``again``: of another call;
    ``audited``: which of them people answered, rightly.
    """

    text: Strings
    truth: Strings
    model: Strings
    again: Strings
    audited: NDArray[np.bool_]


@dataclass
class Candidate:
    """A generation with its certificates, and what its proxy says of every text."""

    number: int
    generation: Generation
    people: Certificate
    llm: Certificate
    label: Strings
    score: NDArray[np.float64]
    certified_at: int | None = None

    @property
    def threshold(self) -> float | None:
        """The lowest that either kind has certified."""
        found = [one.threshold for one in (self.people, self.llm) if one.threshold is not None]
        return min(found) if found else None

    @property
    def against(self) -> str:
        return "people" if self.threshold == self.people.threshold else "llm"


@dataclass
class Passed:
    """What became of the stream. ``by_model``: the label is the model's; ``served``: the labels; ``twice``:
    which the model labelled twice.
    """

    by_model: NDArray[np.bool_]
    served: Strings
    twice: NDArray[np.bool_]
    candidates: list[Candidate] = field(default_factory=list)

    @property
    def deciding(self) -> Candidate | None:
        return _deciding(self.candidates)


def with_errors(truth: Strings, share: float, random: np.random.Generator) -> Strings:
    """Labels of a model that errs at random, each error any other label."""
    names = np.unique(truth)
    given = truth.copy()
    for at in np.flatnonzero(random.random(len(truth)) < share):
        given[at] = random.choice(names[names != truth[at]])
    return given


def audited(texts: int, number: int, until: int, random: np.random.Generator) -> NDArray[np.bool_]:
    """``number`` drawn from the first ``until``."""
    drawn = np.zeros(texts, np.bool_)
    drawn[random.permutation(until)[:number]] = True
    return drawn


def passed(texts: Texts, note: Callable[[str], None] = lambda _: None) -> Passed:
    """All texts one after another, as a trainer and workers would treat them."""
    none = np.zeros(len(texts.text), np.bool_)
    result = Passed(~none, texts.model.copy(), none)
    taught: list[int] = []
    certifying: list[int] = []
    fresh: list[int] = []
    for begin in range(0, len(texts.text), _BLOCK):
        block = np.arange(begin, min(begin + _BLOCK, len(texts.text)))
        deciding = _deciding(result.candidates)
        drawn = np.array([is_audited(VERSION, text, MOST) for text in texts.text[block].tolist()])
        if deciding is not None:
            sure = deciding.score[block] >= (deciding.threshold or 1)
            routed = block[sure & ~drawn]
            result.by_model[routed] = False
            result.served[routed] = deciding.label[routed]
        for at in block.tolist():
            if not result.by_model[at]:
                continue
            uniform = deciding is None or bool(drawn[at - begin])
            held = bool(texts.audited[at]) or part_of(VERSION, str(texts.text[at])) == "certify"
            if uniform:
                fresh.append(at)
                if held:
                    certifying.append(at)
            if not held:
                taught.append(at)
        for candidate in result.candidates[-2:]:
            _observe(candidate, texts, fresh, begin + _BLOCK)
        if result.candidates:
            _ask_twice(result, texts, fresh, most_twice(int(result.by_model[: begin + _BLOCK].sum())))
        fresh.clear()
        number = len(result.candidates) + 1
        if len(taught) >= fit_at(number):
            twice = AskedTwice(int(result.twice.sum()), int((texts.model != texts.again)[result.twice].sum()))
            candidate = _candidate(number, texts, taught, twice)
            result.candidates.append(candidate)
            _observe(candidate, texts, certifying, begin + _BLOCK)
            note(
                f"generation {number}: {len(taught)} texts at {begin}, {candidate.people.certified} certified"
            )
    return result


def _candidate(number: int, texts: Texts, taught: list[int], twice: AskedTwice) -> Candidate:
    made = learn([LabeledText(str(texts.text[at]), str(texts.model[at])) for at in taught])
    decisions = made.proxy.decide(texts.text.tolist())
    risk = risk_of(RISK, number)
    return Candidate(
        number,
        made,
        Certificate.new("people", made.for_people, MARGIN, risk),
        Certificate.against_model(made.for_llm, twice, risk),
        np.array([decision.label for decision in decisions]),
        np.array([made.score_of(decision) for decision in decisions]),
    )


def _ask_twice(result: Passed, texts: Texts, rows: list[int], most: int) -> None:
    """The first of those that the newest proxy is surest of, ``most`` of all texts."""
    newest = result.candidates[-1]
    for at in rows:
        sure = newest.score[at] >= max(newest.llm.thresholds, default=1.0)
        if sure and not texts.audited[at] and is_asked_twice(VERSION, str(texts.text[at])):
            result.twice[at] = result.twice.sum() < most


def _observe(candidate: Candidate, texts: Texts, rows: list[int], now: int) -> None:
    for at in rows:
        score, label, model = float(candidate.score[at]), str(candidate.label[at]), str(texts.model[at])
        candidate.llm = candidate.llm.observe(score, int(label != model))
        if texts.audited[at]:
            loss = loss_to_people(model, label, str(texts.truth[at]))
            candidate.people = candidate.people.observe(score, loss)
    if candidate.certified_at is None and candidate.threshold is not None:
        candidate.certified_at = now


def _deciding(candidates: list[Candidate]) -> Candidate | None:
    """Of the certified generations the one that labels most."""
    found = [one for one in candidates if one.threshold is not None]
    return max(found, key=lambda one: one.generation.coverage[one.threshold or 1]) if found else None
