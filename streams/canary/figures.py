"""What a canary has found so far: how far both versions agree, and who is right where people said so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.queries.given_labels import GivenLabel, labels_of_versions
from connectors.clickhouse.queries.label_versions import LabelVersion, list_versions, version_to_beat
from connectors.clickhouse.queries.watching.canary_rows import newest_places
from streams.core.settings import Settings
from streams.ports.lookups import Place
from streams.quality.comparison import Pair, Verdict, compare
from streams.quality.evidence import LIMIT, loss_evidence
from streams.quality.gate import ENOUGH_DRAWN, JudgedRow, Passage, decide, judged_rows

_NEWEST = 5_000
_MOVED = 10


@dataclass(frozen=True)
class JudgedPairs:
    """The rows that people judged and both versions have labelled.

    ``drawn``: whether all were drawn at random. ``evidence``: that the canary's version is worse.
    """

    verdict: Verdict
    drawn: bool
    evidence: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = self.verdict
        return {
            "rows": found.rows,
            "drawn": self.drawn,
            "accuracy": found.accuracy_candidate,
            "accuracy_beside": found.accuracy_current,
            "won": found.won,
            "lost": found.lost,
            "difference": found.difference if found.rows else None,
            "low": found.low if found.rows else None,
            "high": found.high if found.rows else None,
            "evidence": round(self.evidence, 3),
            "limit": LIMIT,
        }


@dataclass(frozen=True)
class CanaryFindings:
    """``beside``: the version of live rows; None: there is none. ``taken``: whether the canary's version is
    that of live rows itself. ``passage``: what the gate says; None: it compares nothing. ``lacking``: judged
    rows that only the canary's version has not labelled.
    """

    beside: str | None
    taken: bool
    judged: JudgedPairs | None
    passage: Passage | None
    lacking: Sequence[Place]
    agreement: dict[str, Any]


async def find(
    client: ClickHouseClient, settings: Settings, version: str, *, share: float | None
) -> CanaryFindings:
    """Compare ``version`` with that of live rows. ``share``: of all rows, that was drawn for it; None if
    all judged rows are labelled.

    Raises:
        UnavailableError, ConfigurationError: as the client.
    """
    known = await list_versions(client, settings)
    beside, current = live_version(known, but=version), version_to_beat(known)
    own = next((one for one in known if one.version == version), None)
    taken = own is not None and (own.current or own.live)
    nothing: dict[str, Any] = {"agreement": None, "compared": 0, "moved": []}
    if beside is None or current is None or taken:
        return CanaryFindings(None if beside is None else beside.version, taken, None, None, (), nothing)
    gold = await judged_rows(client, settings)
    names = list({beside.version: None, current.version: None, version: None})
    given = await labels_of_versions(client, settings, names, [one.place for one in gold], with_others=False)
    now, then = given[beside.version], given[version]
    passage = None
    if gold:
        passage = decide(
            version, current.version, gold, given[current.version], then, settings.promote_margin
        )
    return CanaryFindings(
        beside.version,
        taken,
        judge(gold, now, then, settings.promote_margin, share),
        passage,
        [one.place for one in gold if one.place in given[current.version] and one.place not in then],
        await _agreement(client, settings, beside.version, version),
    )


def live_version(known: Sequence[LabelVersion], *, but: str) -> LabelVersion | None:
    """The version that labels live rows, other than ``but``."""
    others = [one for one in known if one.version != but]
    return next((one for one in others if one.live), None) or version_to_beat(others)


def judge(
    gold: Sequence[JudgedRow],
    now: Mapping[Place, GivenLabel],
    then: Mapping[Place, GivenLabel],
    margin: float,
    share: float | None,
) -> JudgedPairs | None:
    """The comparison of the rows that have both labels; None without any. As the gate does, of drawn rows
    alone if there are enough of them. ``share`` as in `find`.
    """
    both = [one for one in gold if one.place in now and one.place in then]
    drawn = [one for one in both if one.probability]
    alone = len(drawn) >= ENOUGH_DRAWN or len(drawn) == len(both)
    if not both:
        return None
    pairs = []
    for one in drawn if alone else both:
        # The audit and the canary draw by one number: a row is in both with the lower of the chances.
        chance = min(one.probability or 1.0, share or 1.0) if alone else 1.0
        pairs.append(Pair(one.label, now[one.place].label, then[one.place].label, 1 / chance))
    evidence = loss_evidence(
        ((one.candidate == one.gold) - (one.current == one.gold), one.weight) for one in pairs
    )
    return JudgedPairs(compare(pairs, margin), alone, evidence)


async def _agreement(
    client: ClickHouseClient, settings: Settings, beside: str, version: str
) -> dict[str, Any]:
    """Of the newest rows: how far both agree, and which labels moved to which, the most frequent first."""
    places = await newest_places(client, settings, version, _NEWEST)
    given = await labels_of_versions(client, settings, [beside, version], places, with_others=False)
    now, then = given[beside], given[version]
    pairs = Counter(
        (now[place].label, then[place].label) for place in places if place in now and place in then
    )
    total = pairs.total()
    moved = Counter({pair: count for pair, count in pairs.items() if pair[0] != pair[1]})
    return {
        "agreement": round(1 - moved.total() / total, 4) if total else None,
        "compared": total,
        "moved": [{"from": a, "to": b, "rows": rows} for (a, b), rows in moved.most_common(_MOVED)],
    }
