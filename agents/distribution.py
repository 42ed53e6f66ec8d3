"""From logprobs to a distribution over labels.

Servers differ in what they report: some take logprobs before the schema is applied, so that most of the
probability may be on tokens that are no label; some report few alternatives, or none. A label's confidence
is the probability that was reported for its own tokens. It is never scaled up to make the reported labels
sum to 1: what is not reported is not known. It is None where nothing was reported.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import lru_cache

from agents.ports import AnswerToken

# The label's probability, None if the endpoint does not report it, and those of other labels, highest first.
Distribution = tuple[float | None, tuple[tuple[str, float], ...]]

UNKNOWN: Distribution = (None, ())
_MOST_ALTERNATIVES = 5
_LEAST = 1e-6
# OpenAI and vLLM write -9999 for a token of which they report nothing.
_NOT_REPORTED = -9000.0
# Logits instead of logprobs, or a constant: then the numbers are no probabilities. The margin is for
# rounding.
_MARGIN = 0.01
_BEFORE_VALUE = re.compile(r'"label"\s*:\s*"')
_AFTER = " \n\t},"  # what may follow the value of an object
_IN_NAME = re.compile(r"[A-Za-z0-9_.-]")
_LETTER = re.compile(r"[^\w]*([A-Za-z])(?:[^\w]*|[).:\]]\s.*)", re.DOTALL)


def of_object(
    tokens: Sequence[AnswerToken] | None, label: str, names: tuple[str, ...], written: str | None = None
) -> Distribution:
    """The reported probability of the label, and those of the others among ``names``, from the answer's
    tokens.

    The label's is the product over its own tokens. At each of them, an alternative counts for the one label
    that it would begin or continue; if it fits several labels, it tells nothing about any of them. If a label
    is a prefix of another one, the token after it decides. ``written``: the label as it is in the answer, if
    not by its name.
    """
    written = label if written is None else written
    if not tokens or written.casefold() != label.casefold():
        return UNKNOWN  # no logprobs, or they are those of other words
    if written == label:
        return _along(tokens, label, label, names)
    folded = {name.casefold(): name for name in names}
    if len(folded) < len(names):
        return UNKNOWN
    confidence, others = _along(tokens, written, label.casefold(), tuple(folded), fold=True)
    return confidence, tuple((folded[name], chance) for name, chance in others)


def of_choice(
    tokens: Sequence[AnswerToken] | None, options: dict[str, str]
) -> tuple[dict[str, float], float]:
    """The reported probability of each label from the token of the letter, and of all labels together.

    ``options``: letter to label. Empty without logprobs.
    """
    share = 1.0
    for token in tokens or ():
        reported = {} if _is_placeholder(token) else _reported(token)
        if token.token.strip():
            break
        share *= reported.get(token.token, 0.0)  # a blank before the letter
    else:
        return {}, 0.0
    masses: dict[str, float] = {}
    for text, chance in reported.items():
        label = options.get(letter_in(text))
        if label is not None and chance > 0:
            masses[label] = masses.get(label, 0.0) + share * chance
    return masses, min(sum(masses.values()), 1.0)


def choice_distribution(chances: dict[str, float], label: str) -> Distribution:
    """The same as `of_object`, for the result of `of_choice`."""
    if label not in chances:
        return UNKNOWN
    return _sorted(chances, label)


def letter_in(text: str) -> str:
    """The letter in a one-token answer: alone, or with a bracket or full stop. Empty if there is none."""
    match = _LETTER.fullmatch(text)
    return match.group(1).upper() if match else ""


def _along(
    tokens: Sequence[AnswerToken], written: str, label: str, names: tuple[str, ...], *, fold: bool = False
) -> Distribution:
    start = _value_start(tokens, written)
    if start is None:
        return UNKNOWN
    index, before = start
    chances = dict.fromkeys(names, 0.0)
    share, done = 1.0, ""
    for token in tokens[index:]:
        if not token.token:
            continue
        reported = _reported(token)
        own, first = token.token, not done
        written_on, closed, _ = _piece(own, before, first=first, fold=fold)
        if own not in reported or label not in _members(names, done, written_on, closed):
            return UNKNOWN
        if _is_placeholder(token) and len(_members(names, done, "", False)) > 1:
            return UNKNOWN  # it decides between labels
        for text, chance in reported.items():
            value, ends, after = _piece(text, before, first=first, fold=fold)
            if text == own or not (value or ends) or after.strip(_AFTER):
                continue
            fitting = _members(names, done, value, ends, plain=True)
            # The label's own other spellings count only if they are reported to its end.
            if len(fitting) == 1 and (fitting[0] != label or len(done) + len(value) >= len(label)):
                chances[fitting[0]] += share * chance
        share *= reported[own]
        done += written_on
        before = ""
        if closed or (len(done) >= len(label) and len(_members(names, done, "", False)) < 2):
            chances[label] += share
            return _sorted(chances, label)
    return UNKNOWN  # the answer ends before it is clear which label it is


def _sorted(chances: dict[str, float], label: str) -> Distribution:
    others = sorted(
        ((chance, name) for name, chance in chances.items() if name != label and chance > _LEAST),
        key=lambda pair: (-pair[0], pair[1]),
    )
    return _rounded(chances[label]), tuple(
        (name, _rounded(chance)) for chance, name in others[:_MOST_ALTERNATIVES]
    )


def _rounded(chance: float) -> float:
    """At six digits, not above ``chance`` but for errors of floating point."""
    return min(max(math.floor(chance * 1e6 + 1e-3) / 1e6, 0.0), 1.0)


def _is_placeholder(token: AnswerToken) -> bool:
    """Whether a token is certain and has no alternatives, although they were asked for: so llama-server says
    that it does not know, for tokens that a draft model has guessed.
    """
    return token.logprob == 0.0 and not token.top


def _reported(token: AnswerToken) -> dict[str, float]:
    """The probabilities of the alternatives at this token, itself among them; empty if they are none."""
    chances: dict[str, float] = {}
    for text, logprob in (*token.top, (token.token, token.logprob)):
        if logprob > _MARGIN:
            return {}
        if logprob > _NOT_REPORTED:
            chance = math.exp(logprob) if logprob < 0.0 else 1.0
            if chance > chances.get(text, -1.0):
                chances[text] = chance
    return chances if sum(chances.values()) <= 1 + _MARGIN else {}


def _piece(text: str, before: str, *, first: bool, fold: bool) -> tuple[str, bool, str]:
    """The part of the value in a token, whether the token ends the value, and what is after that. ``before``:
    the part of the ``first`` token before the value.
    """
    if before and text.startswith(before):
        text = text[len(before) :]
    elif first:
        text = text.lstrip(' \n\t":{')
    value, quote, after = text.partition('"')
    return value.casefold() if fold else value, bool(quote), after


@lru_cache(maxsize=16_384)
def _members(
    names: tuple[str, ...], written: str, value: str, closed: bool, *, plain: bool = False
) -> tuple[str, ...]:
    """The labels that begin with ``written`` and can continue with ``value``. ``plain``: only what ends
    an object's value may follow the label. Nobody knows how an answer goes on that was not given.
    """
    return tuple(
        name
        for name in names
        if name.startswith(written) and _fits(name[len(written) :], value, closed, plain)
    )


def _fits(rest: str, value: str, closed: bool, plain: bool) -> bool:
    if closed:
        return value == rest
    if rest.startswith(value):
        return True
    if not rest or not value.startswith(rest):
        return False
    after = value[len(rest) :]
    return not after.strip(_AFTER) if plain else not _IN_NAME.match(after)


def _value_start(tokens: Sequence[AnswerToken], label: str) -> tuple[int, str] | None:
    """The index of the token where the label begins, and the part of that token before it."""
    pieces = [token.token for token in tokens]
    whole = "".join(pieces)
    begin = -1
    for match in _BEFORE_VALUE.finditer(whole):
        if whole.startswith(label, match.end()):
            begin = match.end()
    if begin < 0:
        begin = whole.rfind(label)
    if begin < 0:
        return None
    at = 0
    for index, piece in enumerate(pieces):
        if at + len(piece) > begin:
            return index, piece[: begin - at]
        at += len(piece)
    return None
