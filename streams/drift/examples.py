"""Rows that show what an alarm is about. They are looked for when somebody asks, and not stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.queries.watching.newest_rows import LabelledText, newest_rows
from streams.core.settings import Settings
from streams.core.times import micros_of
from streams.core.topics import normalise
from streams.drift.counts import CONFIDENCE, LENGTH, UNKNOWN
from streams.drift.texts import Vocabulary, features
from streams.drift.watch import DriftFinding, parted

_SHOWN = 10
# Of so many rows of the window those are chosen that show it best; so many before it are what is usual.
_LOOKED_AT, _USUAL = 2_000, 8_000
_WINDOW, _BEFORE = timedelta(days=1), timedelta(days=28)


async def example_rows(
    client: ClickHouseClient, settings: Settings, version: str, alarm: DriftFinding
) -> list[LabelledText]:
    """At most ten rows of the day before the end of the alarm's window, of different texts: the newest with
    the label or the script; the least or most sure; the shortest or longest; those with the most character
    n-grams that rows from before the alarm do not have.

    Raises:
        UnavailableError, ConfigurationError: as the client.
    """
    kind, name = parted(alarm.series)
    begin, end = micros_of(alarm.at - _WINDOW), micros_of(alarm.at)
    if kind == "label":
        return _different(await newest_rows(client, settings, version, begin, end, _LOOKED_AT, label=name))
    rows = await newest_rows(client, settings, version, begin, end, _LOOKED_AT)
    if kind == "script":
        return _different(one for one in rows if features(one.text).script == name)
    usual: list[LabelledText] = []
    if name == UNKNOWN:
        until = alarm.since - _WINDOW
        usual = await newest_rows(
            client, settings, version, micros_of(until - _BEFORE), micros_of(until), _USUAL
        )
    measure = _measures(usual)[name]
    rows = [one for one in rows if name != CONFIDENCE or one.confidence is not None]
    return _different(sorted(rows, key=measure, reverse=alarm.found > alarm.expected))


def _measures(usual: Sequence[LabelledText]) -> dict[str, Callable[[LabelledText], float]]:
    vocabulary = Vocabulary()
    vocabulary.learn(features(one.text).places for one in usual)
    known = vocabulary.today
    return {
        CONFIDENCE: lambda one: one.confidence or 0.0,
        LENGTH: lambda one: features(one.text).length,
        UNKNOWN: lambda one: 1.0 - float(known[features(one.text).places].mean()),
    }


def _different(rows: Iterable[LabelledText]) -> list[LabelledText]:
    """The first of each text."""
    found: dict[str, LabelledText] = {}
    for one in rows:
        found.setdefault(normalise(one.text), one)
        if len(found) == _SHOWN:
            break
    return list(found.values())
