"""Labelled rows and what people answered about them, as the tables hold both; for the long runs.

From there on everything is the product's own: which answer counts, the weights, the figures. The draw is too,
but for the numbers of the rows, which are a generator's instead of hashes. People are right about the rows
that count, so that the figures can be compared with the truth. All the rest is as in a real week: two are
asked about some rows, of whom one may be wrong until a third settles it; some are not sure; and the rows that
the model is least sure of are answered besides, by people who see its label and are sometimes misled by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from agents.distribution import choice_distribution
from connectors.clickhouse.queries.draw import Candidate
from connectors.clickhouse.queries.given_labels import GivenLabel
from streams.ports.lookups import Place
from streams.ports.review import HumanAnswer
from streams.quality.audit import DrawnRow, combine
from tests.unit.streams.quality.long_runs.overconfident import Overconfident, Text

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
OVERLAP, WRONG, NOT_SURE, MISLED = 0.1, 0.2, 0.03, 0.3

Numbers = NDArray[np.int64]
Answer = tuple[Literal["label", "not-sure"], str | None, str, str | None]


@dataclass(frozen=True)
class Unseen:
    """Texts with the labels that the model gave them, in columns."""

    gold: NDArray[np.object_]
    given: Sequence[GivenLabel]
    label: NDArray[np.object_]
    confidence: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.gold)

    @property
    def right(self) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = self.label == self.gold
        return found


def labelled(model: Overconfident, texts: Sequence[Text]) -> Unseen:
    """``texts`` as the label step labels them: with five alternatives, at six digits."""
    given = []
    for line in model.chances([one.text for one in texts]):
        chances = dict(zip(model.labels, line.tolist(), strict=True))
        label = max(chances, key=lambda name: chances[name])
        confidence, others = choice_distribution(chances, label)
        given.append(
            GivenLabel(MONDAY, label, confidence, None, confidence, None, tuple(one for _, one in others))
        )
    return Unseen(
        np.array([one.label for one in texts], dtype=object),
        given,
        np.array([one.label for one in given], dtype=object),
        np.array([one.confidence for one in given], dtype=float),
    )


def place(number: int) -> Place:
    """Of a row of the week."""
    return Place(MONDAY + timedelta(seconds=number), str(number))


def draw(
    labels: NDArray[np.object_], share: float, per_label: int, random: np.random.Generator
) -> list[DrawnRow]:
    """The audit of a week that is over, whose rows have ``labels``, in the order in which they are asked."""
    numbers = random.random(len(labels))
    order = np.argsort(numbers)

    def candidate(row: int) -> Candidate:
        return Candidate(place(row), float(numbers[row]), str(labels[row]))

    lowest = {}
    # Numbers are compared a hundred times as fast as names.
    known, code = np.unique(labels, return_inverse=True) if per_label else ((), order)
    for kind, label in enumerate(known):
        rows = order[code[order] == kind]
        above = float(numbers[rows[per_label]]) if len(rows) > per_label else 1.0
        lowest[label] = [candidate(int(row)) for row in rows[:per_label]], above
    drawn = [candidate(int(row)) for row in order[: np.searchsorted(numbers[order], share)]]
    return combine(drawn, lowest, share=share, each=per_label, monday=MONDAY + timedelta(weeks=1))


def answers(
    drawn: Iterable[DrawnRow],
    unsure: Iterable[int],
    gold: NDArray[np.object_],
    label: NDArray[np.object_],
    random: np.random.Generator,
) -> list[HumanAnswer]:
    """What people answered: about rows of the audit, and about ``unsure`` ones. In order of rows."""
    found: dict[int, list[tuple[Answer, float | None]]] = {}
    for one in drawn:
        row = int(one.place.row_id)
        audited = _audited(gold[row], str(label[row]), random)
        # What a file says of a row was not drawn.
        found[row] = [(answer, one.probability if answer[3] else None) for answer in audited]
    for row in unsure:
        misled = random.random() < MISLED
        said = ("label", str(label[row] if misled else gold[row]), "dora", "unsure")
        found.setdefault(int(row), []).append((said, None))
    return [
        HumanAnswer(
            str(row),
            MONDAY + timedelta(seconds=row),
            "text",
            None,
            kind,
            right,
            who,
            MONDAY + timedelta(weeks=1, seconds=turn),
            queue,
            probability,
        )
        for row, told in sorted(found.items(), key=lambda item: place(item[0]))
        for turn, ((kind, right, who, queue), probability) in enumerate(told)
    ]


def _audited(right: str, other: str, random: np.random.Generator) -> list[Answer]:
    """Answers about a row of the audit."""
    said: list[Answer] = []
    if random.random() < NOT_SURE:
        said.append(("not-sure", None, "boris", "audit"))
    elif random.random() < OVERLAP:
        wrong = random.random() < WRONG
        said.append(("label", other if wrong else right, "boris", "audit"))
    said.append(("label", right, "anna", "audit"))
    if said[0][1] not in (None, right):
        said += [("not-sure", None, "fyodor", "disagreements"), ("label", right, "vera", "disagreements")]
    if random.random() < OVERLAP:  # a file that was taken in, or a label of another queue
        said.append(("label", other, "egor", None))
    return said
