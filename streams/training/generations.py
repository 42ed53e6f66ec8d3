"""A fitted generation while it collects its certificate, and while it decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from agents.proxy.classifier import Proxy, ProxyDecision
from streams.cascade.certificate import Certificate, loss_to_people
from streams.cascade.monitor import Monitor
from streams.cascade.shares import part_of
from streams.core.cascade import Against, ProxyRef
from streams.training.sights import Sight, Sights


class AuditedText(NamedTuple):
    """A text that the audit drew, labelled by the model and by a person. ``person``: None where no label
    fits. ``at``: when the model labelled it, microseconds.
    """

    digest: str
    text: str
    label: str
    person: str | None
    at: int


class GenerationNote(BaseModel):
    """What the checkpoint holds of a generation.

    ``fitted_at``: no text that was labelled later taught it, microseconds. ``judged``: the texts that people
    had judged before it was fitted, and so did not teach it. ``coverage`` and ``disagreement``: by threshold,
    as in `Generation`. ``llm``: its certificate against the model; ``people_at``: the
    lowest threshold that is certified against people, and still well within the margin, ``people_rows`` by
    how many rows. ``refused``: the highest threshold at which people's answers speak against the proxy.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    proxy: ProxyRef
    fitted_at: int
    judged: int
    taught: int
    vetoed: tuple[str, ...]
    for_people: tuple[float, ...]
    coverage: tuple[tuple[float, float], ...]
    disagreement: tuple[tuple[float, float], ...]
    label_disagreement: dict[str, float]
    llm: Certificate
    people_at: float | None = None
    people_rows: int = 0
    refused: float | None = None


class Certified(NamedTuple):
    """A certified threshold, and what it promises."""

    threshold: float
    against: Against
    bound: float


class LearnedGeneration:
    """A generation with its proxy. ``note`` is replaced as it observes."""

    def __init__(self, version: str, note: GenerationNote, proxy: Proxy) -> None:
        self.note = note
        self.proxy = proxy
        self._version = version
        self._vetoed = frozenset(note.vetoed)
        self._judged: dict[str, tuple[float, str]] = {}

    @property
    def number(self) -> int:
        return self.note.proxy.generation

    def score_of(self, decision: ProxyDecision) -> float:
        """The score by which a text is routed: 0 if a veto or the novelty gate keeps it from being."""
        return decision.routing_score(self._vetoed)

    def may_certify(self, sight: Sight) -> bool:
        """Whether it is no text that taught this generation, or chose its thresholds."""
        fresh = sight.at > self.note.fitted_at
        return sight.uniform and (fresh or sight.drawn or part_of(self._version, sight.text) == "certify")

    def observe(self, sights: Sequence[Sight], decisions: Sequence[ProxyDecision]) -> None:
        """New texts with labels of the model, and what the proxy says of them."""
        llm = self.note.llm
        for sight, decision in zip(sights, decisions, strict=True):
            if self.may_certify(sight):
                llm = llm.observe(self.score_of(decision), int(decision.label != sight.label))
        self.note = self.note.model_copy(update={"llm": llm})

    def judge(self, judged: Sequence[AuditedText | None], sights: Sights, margin: float, risk: float) -> None:
        """Certify against people, from all that they judged, in an order that never changes; None: a place
        that does not count.
        """
        people = Certificate.new("people", self.note.for_people, margin, risk)
        new = [one for one in judged if one is not None and one.digest not in self._judged]
        for one, decision in zip(new, self.proxy.decide([one.text for one in new]), strict=True):
            self._judged[one.digest] = (self.score_of(decision), decision.label)
        for number, row in enumerate(judged):
            if row is None or (number >= self.note.judged and self._taught(row, sights)):
                continue
            score, label = self._judged[row.digest]
            loss = loss_to_people(row.label, label, row.person) if row.person is not None else 0
            people = people.observe(score, loss)
        if people.certified:
            self.note = self.note.model_copy(
                update={"people_at": people.threshold, "people_rows": people.rows}
            )
        # Fewer rows than it took, because answers were taken back or are too old to be read, end nothing. As
        # many that do not certify it are other answers.
        elif (at := self.note.people_at) is not None and (
            people.rows >= self.note.people_rows or people.speaks_against(at)
        ):
            self.note = self.note.model_copy(update={"people_at": None})
        against = (one for one in people.thresholds if people.speaks_against(one))
        self.note = self.note.model_copy(update={"refused": max(against, default=None)})

    def _taught(self, one: AuditedText, sights: Sights) -> bool:
        known = sights.get(one.digest)
        drawn = known is not None and known.drawn
        return not drawn and one.at <= self.note.fitted_at and part_of(self._version, one.text) != "certify"

    def certified(self, margin: float) -> Certified | None:
        """What is certified: of both kinds the one that lets it label more. A certificate against the model
        says nothing where people do: what they speak against is used by neither.
        """
        found: list[Certified] = []
        if self.note.people_at is not None:
            found.append(Certified(self.note.people_at, "people", margin))
        refused, by_model = self.note.refused, self.note.llm.threshold
        if by_model is not None and (refused is None or by_model > refused):
            found.append(Certified(by_model, "llm", self.note.llm.limit))
        return min(found, default=None)

    def monitor(self, threshold: float) -> Monitor:
        """What watches it while it labels from ``threshold`` on."""
        overall = dict(self.note.disagreement).get(threshold, self.note.llm.limit)
        return Monitor.new(
            _between(overall), {k: _between(v) for k, v in self.note.label_disagreement.items()}
        )

    def coverage(self, threshold: float) -> float:
        """The share of texts that it is expected to label from ``threshold`` on."""
        return dict(self.note.coverage).get(threshold, 0.0)


def _between(share: float) -> float:
    """As a monitor takes it: a share of few texts may be none or all."""
    return min(max(share, 0.001), 0.9)
