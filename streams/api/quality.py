"""The figures of the page's section on quality: made when somebody looks, and shared for some seconds."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.queries.given_labels import GivenLabel, labels_of_versions
from connectors.clickhouse.queries.label_versions import RETIRED, LabelVersion, current_version, list_versions
from connectors.clickhouse.queries.watching.verified_variants import verified_variants
from streams.api.discovery import NewTopics
from streams.core.errors import RefusedError
from streams.core.settings import Settings
from streams.drift.checkpoint import KnownDrift
from streams.drift.examples import example_rows
from streams.ports.lookups import Place
from streams.ports.review import NO_LABEL
from streams.quality.evaluate import EvaluationQuery, GoldOfTables, gold_of_tables
from streams.quality.gate import JudgedRow, decide
from streams.quality.kept_labels import kept_labels
from streams.quality.report import By, summary
from streams.quality.scales import Scales, on_newest
from streams.quality.settled import SettledRow
from streams.runtime.result_tables import ResultTables

# Answers are shared by all viewers for so long, and of so many questions.
_SECONDS = 10.0
_MOST = 8
_MOST_VERSIONS = 6
# Rows of one confusion, and characters of each text.
_MOST_ROWS, _MOST_TEXT = 20, 300

Given = Mapping[Place, GivenLabel]


@dataclass(frozen=True)
class Picture:
    """``told``: for JSON. ``rows``: by right and by given label, the newest."""

    made: float
    told: dict[str, Any]
    rows: Mapping[tuple[str, str], Sequence[dict[str, Any]]]


class QualityBoard:
    """Implements `streams.ports.page.Quality`. One question is answered at a time."""

    def __init__(
        self,
        tables: ResultTables,
        scales: Scales,
        known: KnownDrift | None = None,
        topics: NewTopics | None = None,
    ) -> None:
        """``scales``: the calibrations, and ``known``, what is known of drift; both may grow. ``topics``:
        looks for what is new.
        """
        self._drift = known or KnownDrift()
        self._topics = topics
        self._tables = tables
        self._scales = scales
        self._answering = asyncio.Lock()
        self._known: dict[EvaluationQuery, Picture] = {}

    async def quality(self, version: str | None, by: By | None, accuracy: float) -> dict[str, Any]:
        return (await self._picture(EvaluationQuery(version, by, accuracy))).told

    def drift(self) -> dict[str, Any]:
        return self._drift.told()

    async def drift_rows(self, series: str) -> Sequence[dict[str, Any]]:
        state = self._drift.traffic
        alarm = next((one for one in state.alarms if one.series == series), None) if state else None
        if state is None or alarm is None:
            raise RefusedError(f"{series} is not in alarm", reason="no-alarm")
        version = state.version
        rows = await self._tables.ask(lambda client, settings: example_rows(client, settings, version, alarm))
        return [
            {**one._asdict(), "text": one.text[:_MOST_TEXT], "created_at": one.created_at.isoformat()}
            for one in rows
        ]

    async def rows(self, version: str | None, right: str, given: str) -> Sequence[dict[str, Any]]:
        # Whatever the figures were asked for, the page has the version's name from them.
        query = EvaluationQuery(version, "week")
        found = next((one for one in self._known if self._answers(one, version)), query)
        return (await self._picture(found)).rows.get((right, given), ())

    async def discover(self, *, anew: bool) -> dict[str, Any]:
        return await self._new.discover(anew=anew)

    async def entry(self, group: str, name: str) -> dict[str, Any]:
        return await self._new.entry(group, name)

    @property
    def _new(self) -> NewTopics:
        assert self._topics is not None
        return self._topics

    def _answers(self, query: EvaluationQuery, version: str | None) -> bool:
        """Whether the picture of ``query`` is new enough, and of ``version``."""
        picture = self._known[query]
        if time.monotonic() - picture.made > _SECONDS:
            return False
        return query.version == version or picture.told["version"] == version

    async def _picture(self, query: EvaluationQuery) -> Picture:
        async with self._answering:
            known = self._known.pop(query, None)
            if known is None or time.monotonic() - known.made > _SECONDS:
                known = await self._tables.ask(
                    lambda client, settings: picture(client, settings, query, self._scales)
                )
            self._known[query] = known
            while len(self._known) > _MOST:
                self._known.pop(next(iter(self._known)))
            return known


async def picture(
    client: ClickHouseClient, settings: Settings, query: EvaluationQuery, scales: Scales
) -> Picture:
    """What `evaluate_tables` tells, and beside it the versions, the rows of each confusion, and the variants.

    Raises:
        RefusedError: there is no such version.
        UnavailableError, ConfigurationError: as the client.
    """
    version = query.version
    known = await list_versions(client, settings)
    current = current_version(known)
    chosen = current if version is None else next((one for one in known if one.version == version), None)
    if chosen is None:
        what = "there is no current label version" if version is None else f"there is no version {version}"
        raise RefusedError(what, reason="unknown-version")
    shown = _shown(known, chosen)
    gold = await gold_of_tables(client, settings)
    names, places = [one.version for one in shown], [one.place for one in gold.rows]
    calibrated = any(scales.get(name) for name in names)
    given = await labels_of_versions(client, settings, names, places, with_others=calibrated)
    given = {version: on_newest(labels, scales.get(version, {})) for version, labels in given.items()}
    variants = kept_labels(*await verified_variants(client, settings))
    # The intervals take up to a second.
    made = await asyncio.to_thread(
        _picture_of, query, gold, given, shown, chosen, current, settings.promote_margin
    )
    made.told["variants"] = variants
    return made


def _shown(known: Sequence[LabelVersion], chosen: LabelVersion) -> list[LabelVersion]:
    """The versions to compare, ``chosen`` among them: promoted ones and trials."""
    found = [one for one in known if one.status != RETIRED or one is chosen]
    return [one for place, one in enumerate(found) if place < _MOST_VERSIONS or one is chosen]


def _picture_of(
    query: EvaluationQuery,
    gold: GoldOfTables,
    given: Mapping[str, Given],
    shown: Sequence[LabelVersion],
    chosen: LabelVersion,
    current: LabelVersion | None,
    margin: float,
) -> Picture:
    told = gold.told(chosen.version, given[chosen.version], query)
    told["versions"] = [
        {
            "version": one.version,
            "status": one.status,
            "current": one.current,
            **summary(gold.lines(given[one.version]), told["biased"]),
            "verdict": _verdict(gold, given, one, current, margin),
        }
        for one in shown
    ]
    return Picture(time.monotonic(), told, _rows(gold.rows, given[chosen.version]))


def _verdict(
    gold: GoldOfTables,
    given: Mapping[str, Given],
    version: LabelVersion,
    current: LabelVersion | None,
    margin: float,
) -> dict[str, Any] | None:
    """The gate's; None where it does not ask."""
    if not gold.rows or current is None or version.promoted_at is not None:
        return None
    rows = [JudgedRow(one.place, one.label, one.probability) for one in gold.rows]
    labels = given[current.version], given[version.version]
    return decide(version.version, current.version, rows, *labels, margin).as_dict()


def _rows(gold: Sequence[SettledRow], given: Given) -> dict[tuple[str, str], list[dict[str, Any]]]:
    found: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in reversed(gold):
        label = given.get(row.place)
        if label is None:
            continue
        some = found[row.label or NO_LABEL, label.label]
        if len(some) < _MOST_ROWS:
            some.append(
                {
                    "row_id": row.place.row_id,
                    "created_at": row.place.created_at,
                    "text": row.text[:_MOST_TEXT],
                    "characters": len(row.text),
                    "confidence": label.confidence,
                }
            )
    return dict(found)
