"""From logprobs to a distribution over labels.

Some servers (llama-server, vLLM by default) take logprobs before the schema is applied, so they also report
tokens that the schema would not allow. Therefore probabilities are renormalised over the labels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import lru_cache

from agents.ports import AnswerToken

# The label's probability, None if the endpoint does not report it, and those of other labels, highest first.
Distribution = tuple[float | None, tuple[tuple[str, float], ...]]

_MOST_ALTERNATIVES = 5
_LEAST = 1e-6
_BEFORE_VALUE = re.compile(r'"label"\s*:\s*"')
_IN_NAME = re.compile(r"[A-Za-z0-9_.-]")


def of_object(tokens: Sequence[AnswerToken] | None, label: str, names: tuple[str, ...]) -> Distribution:
    """The probability of the label among ``names``, and those of the others, from the answer's tokens.

    At each token of the label's value, the alternative tokens are assigned to the labels that they would
    begin or continue. If a label is a prefix of another one, the token after it decides. (None, ()) without
    logprobs.
    """
    start = _value_start(tokens, label) if tokens else None
    if start is None or tokens is None:
        return None, ()
    index, before = start
    chances = dict.fromkeys(names, 0.0)
    share, written = 1.0, ""
    for token in tokens[index:]:
        by_piece = _by_piece(token, before, first=not written)
        fitting = {piece: _members(names, written, *piece) for piece in by_piece}
        own = _piece(token.token, before, first=not written)
        total = sum(weight for piece, weight in by_piece.items() if fitting[piece])
        if len(by_piece) < 2:
            total = 1.0  # no alternatives are reported: use the probability as it is
        if total <= 0 or label not in fitting.get(own, ()):
            break
        for piece, members in fitting.items():
            if piece != own:
                for name in members:
                    chances[name] += share * by_piece[piece] / total / len(members)
        share *= by_piece[own] / total
        written += own[0]
        before = ""
        if own[1] or len(fitting[own]) == 1:
            break
    chances[label] += share
    return _sorted(chances, label)


def of_choice(
    tokens: Sequence[AnswerToken] | None, options: dict[str, str]
) -> tuple[dict[str, float], float]:
    """The probability of each label from the first token, and the share of all labels together.

    ``options``: letter to label. Empty without logprobs.
    """
    if not tokens:
        return {}, 0.0
    masses: dict[str, float] = {}
    for text, logprob in _texts(tokens[0]).items():
        label = options.get(letter_in(text))
        if label is not None:
            masses[label] = masses.get(label, 0.0) + math.exp(min(logprob, 0.0))
    total = sum(masses.values())
    if total <= 0:
        return {}, 0.0
    return {label: mass / total for label, mass in masses.items()}, min(total, 1.0)


def choice_distribution(chances: dict[str, float], label: str) -> Distribution:
    """The same as `of_object`, for the result of `of_choice`."""
    if label not in chances:
        return None, ()
    return _sorted(chances, label)


def letter_in(text: str) -> str:
    """The letter in a one-token answer, without surrounding characters."""
    return text.strip(" \t\n\"'`.():*").upper()


def _sorted(chances: dict[str, float], label: str) -> Distribution:
    others = sorted(
        ((chance, name) for name, chance in chances.items() if name != label and chance > _LEAST),
        key=lambda pair: (-pair[0], pair[1]),
    )
    return _rounded(chances[label]), tuple(
        (name, _rounded(chance)) for chance, name in others[:_MOST_ALTERNATIVES]
    )


def _rounded(chance: float) -> float:
    return min(max(round(chance, 6), 0.0), 1.0)


def _texts(token: AnswerToken) -> dict[str, float]:
    """The alternatives at this token with log probabilities, including the token itself."""
    return {**dict(token.top), token.token: token.logprob}


def _by_piece(token: AnswerToken, before: str, *, first: bool) -> dict[tuple[str, bool], float]:
    weights: dict[tuple[str, bool], float] = {}
    for text, logprob in _texts(token).items():
        piece = _piece(text, before, first=first)
        if piece[0] or piece[1]:
            weights[piece] = weights.get(piece, 0.0) + math.exp(min(logprob, 0.0))
    return weights


def _piece(text: str, before: str, *, first: bool) -> tuple[str, bool]:
    """The part of the value in a token, and whether the token ends the value. ``before``: the part of the
    ``first`` token before the value.
    """
    if before and text.startswith(before):
        text = text[len(before) :]
    elif first:
        text = text.lstrip(' \n\t":{')
    value, quote, _ = text.partition('"')
    return value, bool(quote)


@lru_cache(maxsize=16_384)
def _members(names: tuple[str, ...], written: str, value: str, closed: bool) -> tuple[str, ...]:
    """The labels that begin with ``written`` and can continue with ``value``."""
    return tuple(
        name for name in names if name.startswith(written) and _fits(name[len(written) :], value, closed)
    )


def _fits(rest: str, value: str, closed: bool) -> bool:
    if closed:
        return value == rest
    if rest.startswith(value):
        return True
    return bool(rest) and value.startswith(rest) and not _IN_NAME.match(value[len(rest) :])


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
