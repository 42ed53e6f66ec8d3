"""One generation of a proxy: fitted, calibrated, with the thresholds that are to be certified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from agents.proxy.classifier import Proxy, ProxyDecision
from agents.proxy.fit import calibrated, fit

OTHER = "other"
MOST_THRESHOLDS = 20


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
    expected to route. ``disagreement``: with the model on the texts that chose the thresholds, by threshold.
    """

    proxy: Proxy
    vetoed: frozenset[str]
    for_people: tuple[float, ...]
    for_llm: tuple[float, ...]
    coverage: dict[float, float]
    disagreement: dict[float, float]

    def score_of(self, decision: ProxyDecision) -> float:
        """The score by which it is routed: 0 if a veto or the novelty gate keeps it from being."""
        return decision.score if decision.known and decision.label not in self.vetoed else 0.0


def learn(teach: Sequence[LabeledText], select: Sequence[LabeledText], seed: int = 0) -> Generation:
    """A generation taught ``teach``, with thresholds from ``select``, both as `part_of` parts them. The same
    texts, in whatever order, give the same one.

    Raises:
        ValueError: there are fewer than two labels to teach, or no text to select with.
    """
    if not select:
        raise ValueError("no text to choose thresholds with")
    taught = fit(
        [one.text for one in teach], [one.label for one in teach], [one.weight for one in teach], seed
    )
    proxy = calibrated(taught, [one.text for one in select], [one.label for one in select])
    decisions = proxy.decide([one.text for one in select])
    scores = sorted((one.score for one in decisions if one.known), reverse=True)
    cuts = sorted({scores[len(scores) * cut // 20] for cut in range(5, 20)}, reverse=True) if scores else []
    return Generation(
        proxy=proxy,
        vetoed=frozenset({OTHER}),
        for_people=tuple(cuts),
        for_llm=tuple(cuts),
        coverage={cut: sum(score >= cut for score in scores) / len(select) for cut in cuts},
        disagreement={
            cut: sum(
                d.label != one.label
                for d, one in zip(decisions, select, strict=True)
                if d.known and d.score >= cut
            )
            / max(1, sum(score >= cut for score in scores))
            for cut in cuts
        },
    )


def alpha_of(asked_twice: int, differed: int) -> float:
    """The limit of disagreement with the model: what AGREEMENT leaves, and half of what the model surely
    differs from itself by, asked twice in other words.
    """
    return 0.05
