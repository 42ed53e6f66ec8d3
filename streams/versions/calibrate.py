"""Calibrates a label version by the drawn rows that people judged, and publishes the calibration."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from agents.proxy.audited import is_audited
from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.queries.given_labels import GivenLabel, labels_at
from connectors.clickhouse.queries.label_versions import name_of_current, version_history
from connectors.kafka.connection import connection
from connectors.kafka.producer import send_each
from streams.core.calibration import ConfidenceScale, VersionCalibration
from streams.core.errors import RefusedError
from streams.core.settings import Settings
from streams.core.topics import Topics
from streams.ports.lookups import Place
from streams.quality.calibration import FEWEST_ROWS, Fit, LabelChance, fit
from streams.quality.gate import JudgedRow, judged_rows
from streams.quality.scales import as_reported
from streams.versions.registry import read_versions


async def calibrate(settings: Settings, version: str | None, *, growth: float = 0.0) -> dict[str, Any] | None:
    """Fit the calibration of ``version`` (None: the current one), and publish it if it changes anything.

    ``growth``: only with at least so many times the rows of the last one; None is returned otherwise.
    Returns `version`, `method`, `rows`, `log_loss` and `log_loss_raw` of rows left out, `generation` (null:
    confidence is as reported), and whether it was `published` now.

    Raises:
        RefusedError: there is no such version, or too few drawn rows were judged.
        UnavailableError, ConfigurationError, AccessError: of Kafka or ClickHouse.
    """
    known = await read_versions(settings)
    async with ClickHouseClient.from_settings(settings) as client:
        if version is None:
            version = await name_of_current(client, settings)
        else:
            await version_history(client, settings, version)  # it exists
        calibrations = known.calibrations.get(version, {})
        state = known.cascade_of(version)
        rows = await _drawn(
            client, settings, version, calibrations, 0.0 if state is None else state.audit_rate
        )
    if len(rows) < FEWEST_ROWS:
        raise RefusedError(
            f"{len(rows)} drawn rows with a confidence of {version} were judged by people, and {FEWEST_ROWS} "
            f"are needed: label {FEWEST_ROWS - len(rows)} more of the audit queue",
            reason="too-few-rows",
        )
    newest = _newest(calibrations)
    if newest is not None and len(rows) < growth * newest.rows:
        return None
    found = await asyncio.to_thread(fit, rows)
    stands, published = await _publish(settings, version, newest, found)
    return {
        "version": version,
        "method": found.scale.method,
        "temperature": found.scale.temperature if found.scale.method == "temperature" else None,
        "rows": found.rows,
        "log_loss": found.log_loss,
        "log_loss_raw": found.log_loss_raw,
        "generation": stands.generation if stands is not None and stands.method != "raw" else None,
        "published": published,
    }


async def _publish(
    settings: Settings, version: str, newest: VersionCalibration | None, found: Fit
) -> tuple[VersionCalibration | None, bool]:
    """The calibration that stands then, and whether it was published here. Where another process was first
    with a generation, this one takes the next, if it still says anything else.
    """
    while (new := _next(version, newest, found)) is not None:
        await send_each(connection(settings), [new.message(Topics(settings.topic_prefix))])
        calibrations = (await read_versions(settings)).calibrations.get(version, {})
        if calibrations.get(new.generation, new) == new:
            return new, True
        newest = _newest(calibrations)
    return newest, False


def _newest(calibrations: Mapping[int, VersionCalibration]) -> VersionCalibration | None:
    return calibrations[max(calibrations)] if calibrations else None


async def _drawn(
    client: ClickHouseClient,
    settings: Settings,
    version: str,
    calibrations: Mapping[int, ConfidenceScale],
    audit_rate: float,
) -> list[LabelChance]:
    judged = [one for one in await judged_rows(client, settings) if one.probability]
    given = await labels_at(client, settings, version, [one.place for one in judged], with_text=True)
    return label_chances(judged, of_all_texts(given, version, audit_rate), calibrations)


def of_all_texts(
    given: Mapping[Place, GivenLabel], version: str, audit_rate: float
) -> Mapping[Place, GivenLabel]:
    """The model's labels of texts drawn from all. What reached the model because a proxy was unsure is harder
    than the rest; so from the proxy's first label on only audited texts count, at that rate.
    """
    begin = min((one.labeled_at for one in given.values() if one.by_proxy), default=None)
    if begin is None:
        return given
    return {
        place: one
        for place, one in given.items()
        if not one.by_proxy and (one.labeled_at < begin or is_audited(version, one.text or "", audit_rate))
    }


def label_chances(
    judged: Iterable[JudgedRow],
    labels: Mapping[Place, GivenLabel],
    calibrations: Mapping[int, ConfidenceScale],
) -> list[LabelChance]:
    """What a calibration is fitted on: those of ``judged`` that were drawn and have a label with a
    confidence.
    """
    found = []
    for gold in judged:
        given = labels.get(gold.place)
        if given is None or not gold.probability:
            continue
        right, weight = given.label == gold.label, 1 / gold.probability
        if (before := as_reported(given, calibrations)) is not None:
            confidence, others = before
            found.append(LabelChance(confidence, [chance for _, chance in others], right, weight))
    return found


def _next(version: str, newest: VersionCalibration | None, found: Fit) -> VersionCalibration | None:
    """The calibration to be published; None if the newest one, or none at all, says the same."""
    now = ConfidenceScale() if newest is None else newest
    if (now.method, now.temperature, now.points) == (
        found.scale.method,
        found.scale.temperature,
        found.scale.points,
    ):
        return None
    return VersionCalibration(
        **found.scale.model_dump(),
        version=version,
        generation=1 if newest is None else newest.generation + 1,
        rows=found.rows,
        log_loss=found.log_loss,
        log_loss_raw=found.log_loss_raw,
    )
