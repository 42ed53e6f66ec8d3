"""Compares a label version with what people say is right: their answers in the tables, or a file."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.taxonomy import load_taxonomy
from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.queries.given_labels import GivenLabel, labels_at, labels_of_texts
from connectors.clickhouse.queries.gold import human_answers
from connectors.clickhouse.queries.label_versions import name_of_current
from connectors.clickhouse.queries.places import times_of
from streams.core.errors import RefusedError
from streams.core.settings import Settings
from streams.ports.lookups import Place
from streams.privacy.erasure import ERASED_TEXT
from streams.quality.agreement import answered_twice, kappa
from streams.quality.gold_file import GoldRow, read_masked_gold
from streams.quality.report import WANTED, By, GoldLine, report
from streams.quality.scales import Scales, on_newest
from streams.quality.settled import SettledRow, settled_rows


@dataclass(frozen=True)
class EvaluationQuery:
    """``version``: None: the current one. ``by``: also figures of groups. ``wanted``: the accuracy for which
    the least confidence is looked for.
    """

    version: str | None = None
    by: By | None = None
    wanted: float = WANTED


async def evaluate(
    settings: Settings, gold: Path | None, query: EvaluationQuery, scales: Scales
) -> dict[str, Any]:
    """How well a version agrees with the gold set in the file ``gold``, or with the tables' human answers.

    ``scales``: the calibrations, as far as they are known. All confidences are judged as the newest one of
    the version makes them, whichever they were stored with.

    Raises:
        ConfigurationError: the file cannot be read.
        RefusedError: there is no such version, none at all, or nothing to compare it with.
        UnavailableError.
    """
    rows = None if gold is None else await read_masked_gold(gold, settings)
    async with ClickHouseClient.from_settings(settings) as client:
        if rows is None:
            found = await evaluate_tables(client, settings, query, scales)
            if not found["gold"]:
                raise RefusedError("no person has labelled a row yet", reason="no-gold")
        else:
            version = query.version if query.version is not None else await name_of_current(client, settings)
            lines, about = await _file_lines(client, settings, version, rows, query, scales)
            warnings = [*rows.warnings, *about["warnings"], *_strange(lines, settings)]
            found = {
                "version": version,
                "unlabeled": rows.unlabeled,
                "kappa": None,
                **about,
                "warnings": warnings,
                **report(lines, wanted=query.wanted, by=query.by),
            }
    if not found["labeled"]:
        raise RefusedError(
            f"label version {found['version']} has no label of any row of {gold or 'the gold set'}",
            reason="unknown-version",
        )
    return found


def _strange(lines: Sequence[GoldLine], settings: Settings) -> list[str]:
    """Tells of labels that are written otherwise than in the taxonomy: no row can agree with them."""
    found = {line.gold for line in lines if line.gold is not None} - {line.given for line in lines}
    found -= set(load_taxonomy(settings.taxonomy_path).names) if found else set()
    told = ", ".join(map(repr, sorted(map(str, found))))
    return [f"labels that neither the taxonomy nor the version has: {told}"] if found else []


async def evaluate_tables(
    client: ClickHouseClient, settings: Settings, query: EvaluationQuery, scales: Scales
) -> dict[str, Any]:
    """From the answers of people in the tables; all figures are None without any. ``scales``: as in
    `evaluate`.

    Raises:
        RefusedError: there is no label version.
        UnavailableError, ConfigurationError: as the client.
    """
    version = query.version if query.version is not None else await name_of_current(client, settings)
    gold = await gold_of_tables(client, settings)
    places, known = [one.place for one in gold.rows], scales.get(version, {})
    given = await labels_at(client, settings, version, places, with_others=bool(known))
    given = on_newest(given, known)
    # Some hundred milliseconds of computing, and others may be waiting.
    return await asyncio.to_thread(gold.told, version, given, query)


@dataclass(frozen=True)
class GoldOfTables:
    """``rows``: those of which somebody was sure, by time. ``not_sure``: how many others there are.
    ``disagreements``: rows that wait to be settled. ``kappa``: agreement of people; None without any pair.
    """

    rows: Sequence[SettledRow]
    not_sure: int
    disagreements: int
    kappa: float | None

    def lines(self, given: Mapping[Place, GivenLabel]) -> list[GoldLine]:
        """The rows with a version's labels."""
        return [_line(one, given.get(one.place)) for one in self.rows]

    def told(self, version: str, given: Mapping[Place, GivenLabel], query: EvaluationQuery) -> dict[str, Any]:
        """All figures of ``version``, ready for JSON."""
        return {
            "version": version,
            "unlabeled": 0,
            **_calibration(given.values()),
            "not_sure": self.not_sure,
            "disagreements": self.disagreements,
            "kappa": self.kappa,
            **report(self.lines(given), wanted=query.wanted, by=query.by),
        }


async def gold_of_tables(client: ClickHouseClient, settings: Settings) -> GoldOfTables:
    """What people answered.

    Raises:
        UnavailableError, ConfigurationError: as the client.
    """
    answers = [one async for one in human_answers(client, settings)]
    rows = settled_rows(answers)
    judged = [one for one in rows if one.judged]
    return GoldOfTables(
        judged,
        len(rows) - len(judged),
        sum(one.disputed for one in rows),
        kappa(answered_twice(answers)),
    )


def _calibration(given: Iterable[GivenLabel]) -> dict[str, Any]:
    """The generation that all confidences are of, null for reported ones; a warning where they differ."""
    generations = sorted(
        {one.calibration or 0 for one in given if one.confidence is not None and not one.by_proxy}
    )
    if len(generations) < 2:
        return {"calibration": (generations[0] or None) if generations else None, "warnings": []}
    names = ", ".join(str(one) if one else "none" for one in generations)
    warning = (
        f"the confidences are of several calibrations ({names}), which are not known here: ece, brier and "
        "the least confidence are of the mixture"
    )
    return {"calibration": None, "warnings": [warning]}


def _line(row: SettledRow, given: GivenLabel | None) -> GoldLine:
    return GoldLine(
        row.label,
        given.label if given else None,
        given.confidence if given else None,
        row.probability,
        row.place.created_at,
        row.source_domain,
        _length(row.text),
    )


async def _file_lines(
    client: ClickHouseClient,
    settings: Settings,
    version: str,
    rows: Sequence[GoldRow],
    query: EvaluationQuery,
    scales: Scales,
) -> tuple[list[GoldLine], dict[str, Any]]:
    by_id = [one.row_id for one in rows if one.text is None and one.created_at is None]
    places = [Place(one.created_at, one.row_id) for one in rows if one.created_at is not None]
    places += await times_of(client, settings, by_id)
    known = scales.get(version, {})
    found = await labels_at(
        client, settings, version, places, with_text=query.by == "length", with_others=bool(known)
    )
    found = on_newest(found, known)
    newest: dict[str, GivenLabel] = {}
    for place in sorted(found):
        newest[place.row_id] = found[place]  # of several rows with one id, the newest
    texts = await labels_of_texts(
        client, settings, version, [one.text for one in rows if one.text is not None]
    )
    texts = on_newest(texts, known)
    lines = []
    for row in rows:
        if row.text is not None:
            given = texts.get(row.text)
        elif row.created_at is not None:
            given = found.get(Place(row.created_at, row.row_id))
        else:
            given = newest.get(row.row_id)
        text = row.text or (given.text if given else None)
        lines.append(
            GoldLine(
                row.label,
                given.label if given else None,
                given.confidence if given else None,
                row.probability,
                given.created_at if given else row.created_at,
                given.source_domain if given else None,
                _length(text),
            )
        )
    return lines, _calibration([*found.values(), *texts.values()])


def _length(text: str | None) -> int | None:
    """Of a text; that of an erased one is not known."""
    return None if text is None or text == ERASED_TEXT else len(text)
