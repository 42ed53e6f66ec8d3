"""How often a certificate is wrong, where the truth is known: on scores alone, without texts and fits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streams.cascade.certificate import AGREEMENT, AskedTwice, Certificate, Kind, risk_of

GENERATIONS, ROWS = 4, 1_000
# Of the score, a fifth more of the texts each.
THRESHOLDS = (0.8, 0.6, 0.4, 0.2, 0.0)
# How often the model differs from itself.
DIFFERS = 0.10
# Of people: the share of texts that the proxy gains where it would label all.
_GAINED = 0.03

Floats = NDArray[np.float64]


def wrong_certificates(
    kind: Kind, times: int, margin: float, risk: float, good: int, twice: int = 0
) -> float:
    """How often any of some generations gets a wrong certificate. The first ``good`` thresholds are well
    within what is allowed; all others are exactly at the bound, and a certificate of one is wrong. ``twice``:
    texts that the model labelled twice; it differs from itself in DIFFERS, or never if there are none.
    """
    random = np.random.default_rng(7)
    wrong = sum(
        any(
            _is_wrong(kind, margin, risk_of(risk, generation), good, twice, random)
            for generation in range(1, GENERATIONS + 1)
        )
        for _ in range(times)
    )
    return wrong / times


def _is_wrong(
    kind: Kind, margin: float, risk: float, good: int, twice: int, random: np.random.Generator
) -> bool:
    if kind == "people":
        certificate = Certificate.new(kind, THRESHOLDS, margin, risk)
        lost, gained = _of_people(margin, good)
    else:
        asked = AskedTwice(twice, int(random.binomial(twice, DIFFERS)))
        certificate = Certificate.against_model(THRESHOLDS, asked, risk)
        limit = 1 - AGREEMENT + (DIFFERS / 2 if twice else 0.0)
        lost, gained = _of_model(limit, good), np.zeros(len(THRESHOLDS))
    scores, draws = random.random(ROWS), random.random(ROWS)
    bands = np.searchsorted(-np.array(THRESHOLDS), -scores)
    losses = np.where(draws < gained[bands], -1, (draws < (gained + lost)[bands]).astype(int))
    for score, loss in zip(scores.tolist(), losses.tolist(), strict=True):
        certificate = certificate.observe(score, loss)
        if certificate.certified > good:
            return True
    return False


def _of_people(margin: float, good: int) -> tuple[Floats, Floats]:
    """The shares lost and gained, of the texts that each threshold adds: the mean over all texts is the
    margin from the first threshold on that is not ``good``.
    """
    lost, gained = np.zeros(len(THRESHOLDS)), np.zeros(len(THRESHOLDS))
    band = 1 / len(THRESHOLDS)
    gained[: good + 1] = _GAINED
    lost[good] = (margin + (good + 1) * band * _GAINED) / band
    # Those below lose and gain alike.
    lost[good + 1 :] = gained[good + 1 :] = _GAINED
    return lost, gained


def _of_model(limit: float, good: int) -> Floats:
    """The shares that differ: the mean of those above is ``limit`` from that threshold on."""
    differs: Sequence[float] = [
        limit / 3 if at < good else limit * (1 + 2 * good / 3) if at == good else limit
        for at in range(len(THRESHOLDS))
    ]
    return np.array(differs)
