"""One generation of a proxy: fitted, calibrated, with the thresholds that are to be certified.

What chooses temperature, vetoes and thresholds are the teaching texts themselves, each labelled by a proxy
that was fitted without it. So none is kept from teaching, and none that certifies is needed here.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from agents.proxy.classifier import Proxy, ProxyDecision
from agents.proxy.fit import LeftOut, fit_and_try
from streams.cascade.bounds import lower_bound, upper_bound

# Labels that mean that none fits: what is unlike all others is not to be learned as a kind.
OTHER = frozenset({"other", "oos", "out_of_scope", "unknown", "none", "другое", "прочее", "иное"})
# A label with fewer teaching texts is left to the model.
RARE = 12
# A label is bad if it surely differs from the model by this much more than all of them.
_WORSE, _BAD_RISK = 0.05, 0.01
# That a label differs more often than its bound says.
_LABEL_RISK = 0.05
# Nothing is known of a label with few texts; if it differs more than this, it is to alarm all the same.
_MOST_LABEL_DIFFERENT = 0.35
# Where texts differ more often than this there is nothing to certify: the labels follow no rule.
_MOST_DIFFERENT = 0.5
# At most this share of the texts of labels that were left out may be labelled. With a quarter of the labels
# left out it is twice or three times as many as of a few labels that are new.
_MOST_STRANGE = 0.10
# The shares of texts above the thresholds: the first must be narrow enough to be certified at all, and wide
# enough for rows to come.
_COVERAGES = {"people": range(20, 100, 5), "llm": range(25, 100, 5)}


class LabeledText(NamedTuple):
    """A distinct text and the label that it is to teach. ``weight``: 1 for the model's; 5 for that of a
    person who was shown the row because it was unsure or searched for.
    """

    text: str
    label: str
    weight: float = 1.0


@dataclass(frozen=True)
class Generation:
    """``vetoed``: labels that the proxy may not give. ``for_people``, ``for_llm``: the thresholds that the
    two certificates test, descending. ``coverage``: of each of either, the share of all texts that it is
    expected to route. ``disagreement``: with the model on texts that it was not taught, by threshold;
    ``label_disagreement``: at most that of a label, at the lowest one.
    """

    proxy: Proxy
    vetoed: frozenset[str]
    for_people: tuple[float, ...]
    for_llm: tuple[float, ...]
    coverage: dict[float, float]
    disagreement: dict[float, float]
    label_disagreement: dict[str, float]

    def score_of(self, decision: ProxyDecision) -> float:
        """The score by which it is routed: 0 if a veto or the novelty gate keeps it from being."""
        return decision.routing_score(self.vetoed)


def learn(teach: Sequence[LabeledText], margin: float = 0.01, seed: int = 0) -> Generation:
    """A generation taught ``teach``, distinct texts of the part `teach`. The same texts, in whatever order,
    give the same one. ``margin``: how much accuracy may be lost.

    Raises:
        ValueError: there are fewer than two labels.
    """
    fitted = fit_and_try(
        [one.text for one in teach], [one.label for one in teach], [one.weight for one in teach], seed
    )
    taught = Counter(one.label for one in teach)
    # Texts that people chose because they were hard are no sample of what is to be labelled.
    tried = [one for one in fitted.left_out if one.weight == 1.0]
    rare = {label for label in fitted.proxy.labels if taught[label] < RARE}
    vetoed = frozenset(
        label for label in fitted.proxy.labels if label in rare or label.casefold() in OTHER
    ) | _bad(tried)
    scores = sorted(
        (score for one in tried if (score := one.decision.routing_score(vetoed))),
        reverse=True,
    )
    cuts = {kind: _cuts(scores, len(tried), shares) for kind, shares in _COVERAGES.items()}
    every = sorted({cut for some in cuts.values() for cut in some}, reverse=True)
    routed = {cut: [one for one in tried if _routed(one, cut, vetoed)] for cut in every}
    strange = [one.routing_score(vetoed) for one in fitted.strangers]
    every = [
        cut
        for cut in every
        if _share_different(routed[cut]) <= _MOST_DIFFERENT
        and sum(score >= cut for score in strange) <= _MOST_STRANGE * len(strange)
    ]
    routed = {cut: routed[cut] for cut in every}
    lowest = routed[every[-1]] if every else []
    return Generation(
        proxy=fitted.proxy,
        vetoed=vetoed,
        for_people=_not_far_below(
            [cut for cut in cuts["people"] if cut in routed],
            {cut: (len(some) / len(tried), _share_different(some)) for cut, some in routed.items()},
            margin,
        ),
        for_llm=tuple(cut for cut in cuts["llm"] if cut in routed),
        coverage={cut: len(some) / len(tried) for cut, some in routed.items()},
        disagreement={cut: _share_different(some) for cut, some in routed.items()},
        label_disagreement={
            label: _at_most_different([one for one in lowest if one.decision.label == label])
            for label in sorted({one.decision.label for one in lowest})
        },
    )


def _routed(one: LeftOut, cut: float, vetoed: frozenset[str]) -> bool:
    return one.decision.routing_score(vetoed) >= cut


def _share_different(some: Sequence[LeftOut]) -> float:
    return sum(one.differs for one in some) / len(some) if some else 0.0


def _at_most_different(some: Sequence[LeftOut]) -> float:
    bound = upper_bound(sum(one.differs for one in some), len(some), _LABEL_RISK)
    return min(bound, _MOST_LABEL_DIFFERENT)


def _cuts(scores: Sequence[float], texts: int, shares: Sequence[int]) -> tuple[float, ...]:
    """The scores that these shares of texts reach, in percent, as far as there are so many."""
    places = (texts * share // 100 for share in shares)
    return tuple(sorted({scores[at] for at in places if at < len(scores)}, reverse=True))


def _not_far_below(
    cuts: Sequence[float], found: Mapping[float, tuple[float, float]], margin: float
) -> tuple[float, ...]:
    """The first of ``cuts``, as long as accuracy is expected to be less than half of ``margin`` below that at
    the best of them. ``found``: the share of texts above a cut, and how often those differ from the model.

    Of the surest texts, where the proxy hardly errs, as many differ as the model has wrong. Where twice as
    many differ, the proxy has as many wrong as the model.
    """
    if not cuts:
        return ()
    errors = found[cuts[0]][1]
    lost = [share * (different - 2 * errors) for share, different in (found[cut] for cut in cuts)]
    last = max(at for at, value in enumerate(lost) if value <= min(lost) + margin / 2)
    return tuple(cuts[: last + 1])


def _bad(tried: Sequence[LeftOut]) -> frozenset[str]:
    """Labels by which the surer half of the texts differs more from the model than by others."""
    half = sorted(tried, key=lambda one: -one.decision.score)[: len(tried) // 2]
    overall = _share_different(half)
    given: defaultdict[str, list[LeftOut]] = defaultdict(list)
    for one in half:
        given[one.decision.label].append(one)
    return frozenset(
        label
        for label, some in given.items()
        if lower_bound(sum(one.differs for one in some), len(some), _BAD_RISK) > overall + _WORSE
    )
