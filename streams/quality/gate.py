"""The gate before a promotion: the gold rows decide whether a version may become the current one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.queries.given_labels import GivenLabel, labels_at, labels_of_versions
from connectors.clickhouse.queries.gold import human_answers
from connectors.clickhouse.queries.label_versions import (
    PROMOTED,
    list_versions,
    version_history,
    version_to_beat,
)
from streams.core.settings import Settings
from streams.ports.lookups import Place
from streams.ports.review import HumanAnswer
from streams.quality.comparison import Pair, Verdict, compare
from streams.quality.settled import settled_rows

# With fewer drawn rows, those that were not drawn are compared too.
ENOUGH_DRAWN = 100
# A candidate that labelled chosen rows alone may look better on them than it is. Some rows are lacking all
# the same: no usable answer, or a label that is still in flight.
_LACKING_MOST = 0.1
_ABSENT_SHOWN = 3


class JudgedRow(NamedTuple):
    """A row that people judged.

    ``label``: None: no label of the taxonomy fits. ``probability``: with which it was drawn, 0..1; None if it
    was not drawn at random.
    """

    place: Place
    label: str | None
    probability: float | None = None


@dataclass(frozen=True)
class Passage:
    """Whether a version may be promoted.

    ``current``: the version that it is compared with. ``verdict``: None if nothing was compared. ``drawn``:
    whether all compared rows were drawn at random. ``missing``: gold rows that lack a label of one of both.
    ``text``: the result for a person.
    """

    version: str
    current: str | None
    passes: bool
    text: str
    verdict: Verdict | None = None
    drawn: bool = False
    missing: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `answer` is null if nothing was compared."""
        found = {"answer": None, **(asdict(self.verdict) if self.verdict else {})}
        return {
            **found,
            "compared_with": self.current,
            "passes": self.passes,
            "drawn": self.drawn,
            "missing": self.missing,
            "text": self.text,
        }


async def examine(client: ClickHouseClient, settings: Settings, version: str) -> Passage:
    """Compare ``version`` with the current one on the gold rows; as `version_to_beat`.

    A version that was current before passes: to go back needs no proof.

    Raises:
        RefusedError: there is no such version.
        UnavailableError, ConfigurationError: as the client.
    """
    history = await version_history(client, settings, version)
    found = version_to_beat(await list_versions(client, settings))
    if found is None or any(one.status == PROMOTED for one in history):
        return Passage(version, found.version if found is not None else None, True, "")
    current = found.version
    gold = await judged_rows(client, settings)
    if not gold:
        return Passage(
            version, current, True, f"no person has labelled rows yet, so {version} was not compared"
        )
    both = current, version
    places = [one.place for one in gold]
    given = await labels_of_versions(client, settings, both, places, with_others=False)
    return decide(version, current, gold, given[current], given[version], settings.promote_margin)


async def has_gold(client: ClickHouseClient, settings: Settings, version: str) -> bool:
    """Whether ``version`` has to be compared: people labelled rows that `version_to_beat` has labelled too,
    and it was not current itself before.

    Raises:
        UnavailableError, ConfigurationError: as the client.
    """
    known = await list_versions(client, settings)
    found = version_to_beat(known)
    if found is None or any(one.version == version and one.promoted_at is not None for one in known):
        return False
    places = [one.place for one in await judged_rows(client, settings)]
    return bool(await labels_at(client, settings, found.version, places, with_others=False))


async def judged_rows(client: ClickHouseClient, settings: Settings) -> list[JudgedRow]:
    """All rows that people judged, those left out where nobody was sure.

    Raises:
        UnavailableError, ConfigurationError: as the client.
    """
    return judged([one async for one in human_answers(client, settings)])


def judged(answers: Iterable[HumanAnswer]) -> list[JudgedRow]:
    """The rows of ``answers``, which are in order of rows, of which somebody was sure."""
    return [JudgedRow(one.place, one.label, one.probability) for one in settled_rows(answers) if one.judged]


Labels = Mapping[Place, GivenLabel]


def decide(
    version: str, current: str, gold: Sequence[JudgedRow], now: Labels, then: Labels, margin: float
) -> Passage:
    """The gate's decision. ``now``, ``then``: labels of the current version and of the candidate, by row.

    Undecided if the candidate has not labelled more than a tenth of the rows that are to be compared.
    """
    seen = [one for one in gold if one.place in now]
    drawn = [one for one in seen if one.probability]
    alone = len(drawn) >= ENOUGH_DRAWN or len(drawn) == len(seen) > 0
    wanted = drawn if alone else seen
    # Rows of unlike origin have no common weights.
    weights = {one.place: 1 / (one.probability or 1) if alone else 1.0 for one in wanted}
    lacks = [one for one in wanted if one.place not in then]
    pairs = [
        Pair(one.label, now[one.place].label, then[one.place].label, weights[one.place])
        for one in wanted
        if one.place in then
    ]
    missing = sum(1 for one in gold if one.place not in now or one.place not in then)
    verdict = compare(pairs, margin)
    partly = pairs and (
        len(lacks) > _LACKING_MOST * len(wanted)
        or sum(weights[one.place] for one in lacks) > _LACKING_MOST * sum(weights.values())
    )
    if partly:
        verdict = replace(verdict, answer="undecided", labels=(), more=0)
    text = _told(version, current, verdict, missing, len(lacks) if partly else 0)
    if pairs and not alone:
        text += (
            ". These rows were not drawn at random: if they were reviewed because the current version was "
            "unsure of them, it looks worse here than it is"
        )
    passes = verdict.answer in ("better", "not worse")
    return Passage(version, current, passes, text, verdict, alone, missing)


def _told(version: str, current: str, found: Verdict, missing: int, lacks: int) -> str:
    if not found.rows:
        return (
            f"undecided: none of {missing} gold rows has a label of both {current} and {version}: label them "
            f"first, with `labelstream replay --from-table --version {version}`"
        )
    seen = (
        f"on {found.rows} gold rows {version} is right for {found.accuracy_candidate:.3f}, {current} for "
        f"{found.accuracy_current:.3f}; the difference is {found.difference:+.3f} "
        f"({found.low:+.3f} to {found.high:+.3f})"
    )
    if lacks:
        return (
            f"undecided: {version} has no label of {lacks} of {found.rows + lacks} gold rows, so the others "
            f"may be chosen ones: label the {lacks} first, with `labelstream replay --from-table --version "
            f"{version}`. So far, {seen}"
        )
    if found.answer == "better":
        return f"better: {seen}"
    if found.answer == "not worse":
        return f"not worse than {found.margin:g}: {seen}"
    if found.labels:
        lost = ", ".join(
            f"{one.label} ({one.lost} rows lost, {one.won} won)" for one in found.labels[:_ABSENT_SHOWN]
        )
        return f"worse for the label {lost}: {seen}. Mend the prompt or the taxonomy and make a new version"
    if found.answer == "worse":
        return f"worse: {seen}. Mend the prompt or the taxonomy and make a new version"
    rest = f", or label the {missing} others under both versions" if missing else ""
    return f"undecided: {seen}. Label {found.more} more rows by hand{rest}, and ask again"
