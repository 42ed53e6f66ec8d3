"""Compares the newest hours with the reference, and keeps the alarms.

The reference is the four weeks before, without the last day, which may have drifted already, and without the
hours in which a series was in alarm. A change that has lasted for two days is how things are now: from then
on the reference of that series begins with the change.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict

from streams.drift.counts import HOUR_SECONDS, QUARTER_SECONDS, QUARTERS, Counts, total
from streams.drift.profile import JudgedSeries, Profile, names_of

REFERENCE_HOURS = 28 * 24
_GAP_HOURS = 24
KEPT_HOURS = REFERENCE_HOURS + _GAP_HOURS
_LEAST_HOURS = 48
_LASTING_HOURS = 48
# An alarm ends when nothing has been found for so long.
_QUIET_SECONDS = 2 * HOUR_SECONDS
# A pair of hours with fewer rows is no window: so many rows are.
_LEAST_ROWS, WINDOW_ROWS = 3_600, 7_200
_MOST_HOURS = 10 * 24
# False alarms of one kind of window in 30 days. Each is divided by all that it is tried on.
_FALSE_ALARMS, _DAYS = 0.1, 30


class DriftFinding(BaseModel):
    """A series that is not as in the reference.

    ``window``: `1 h`, `2 h`, `24 h` or `7200 rows`. ``found``, ``expected``: a share or a mean. ``chance``:
    of such a distance in one window, if nothing had changed. ``at``: the end of the window.
    """

    model_config = ConfigDict(frozen=True)

    series: str
    window: str
    found: float
    expected: float
    chance: float
    since: datetime
    at: datetime


def parted(series: str) -> tuple[str, str]:
    """The kind of a series, `label`, `script` or `mean`, and its name."""
    kind, _, name = series.partition(":")
    return (kind, name) if name else ("mean", series)


class TrafficWatch:
    """Takes the quarters of hours in order, and tells what differs from the reference."""

    def __init__(self) -> None:
        self.hours: dict[int, Counts] = {}
        self.flagged: dict[int, set[str]] = {}
        self.begins: dict[str, int] = {}  # the first hour of a series' reference, if it is not all of it
        self.alarms: dict[str, DriftFinding] = {}
        self.judged: int = 0  # series that the reference knows enough about
        self._quarters: dict[int, Counts] = {}
        self._profile: tuple[tuple[int, int], Profile] | None = None

    def add(self, quarter: int, counts: Counts, *, judge: bool = True) -> list[DriftFinding]:
        """The rows of quarter of an hour number ``quarter`` (since 1970), all of which are known. Returns the
        alarms that are new. ``judge``: False for what is long past.
        """
        self._quarters[quarter] = counts
        for old in [one for one in self._quarters if one <= quarter - 3 * QUARTERS]:
            del self._quarters[old]
        hour = quarter // QUARTERS
        new = self._look(quarter) if judge else []
        if quarter % QUARTERS == QUARTERS - 1:
            parts = [self._quarters.get(hour * QUARTERS + part, Counts()) for part in range(QUARTERS)]
            self.add_hour(hour, total(parts))
        return new

    def add_hour(self, hour: int, counts: Counts, flagged: Iterable[str] = ()) -> None:
        """A whole hour. ``flagged``: the series that were in alarm then."""
        self.hours[hour] = counts
        self.flagged[hour] = {*flagged, *self.alarms}
        for old in [one for one in self.hours if one <= hour - KEPT_HOURS]:
            del self.hours[old]
            self.flagged.pop(old, None)
        self._settle(hour)

    def _settle(self, hour: int) -> None:
        """What has been in alarm for long is the reference from its beginning on."""
        for series, alarm in list(self.alarms.items()):
            begin = int(alarm.since.timestamp()) // HOUR_SECONDS
            if hour - begin >= _LASTING_HOURS:
                self.begins[series] = begin
                del self.alarms[series]
                for flags in self.flagged.values():
                    flags.discard(series)
                self._profile = None
        for series, begin in list(self.begins.items()):
            if begin <= hour - REFERENCE_HOURS:
                del self.begins[series]

    def _look(self, quarter: int) -> list[DriftFinding]:
        hour = quarter // QUARTERS
        end = datetime.fromtimestamp((quarter + 1) * QUARTER_SECONDS, UTC)
        new: list[DriftFinding] = []
        windows = self._windows(quarter)
        self.judged = 0 if windows else self.judged
        for name, parts, looks in windows:
            # A window of many hours is no part of its own reference.
            profile = self._reference(hour, max(_GAP_HOURS, hour - min(one for one, _ in parts)))
            if profile is None:
                continue
            judged = profile.judge(parts)
            known = sum(one is not None for one in judged)
            self.judged = max(self.judged, known)
            least = _FALSE_ALARMS / max(known * looks * _DAYS, 1)
            for series, one in zip(profile.names, judged, strict=True):
                if one is not None and one.chance < least and not one.usual:
                    new += self._alarm(series, name, one, end)
        for series, alarm in list(self.alarms.items()):
            if (end - alarm.at).total_seconds() > _QUIET_SECONDS:
                del self.alarms[series]
        return new

    def _alarm(self, series: str, window: str, one: JudgedSeries, end: datetime) -> list[DriftFinding]:
        before = self.alarms.get(series)
        if before is not None and before.at == end and before.chance <= one.chance:
            return []
        found = DriftFinding(
            series=series,
            window=window,
            found=one.found,
            expected=one.expected,
            chance=one.chance,
            since=end if before is None else before.since,
            at=end,
        )
        self.alarms[series] = found
        return [found] if before is None else []

    def _reference(self, hour: int, gap: int) -> Profile | None:
        """Without the last ``gap`` hours."""
        if self._profile is None or self._profile[0] != (hour, gap):
            some = {one: counts for one, counts in self.hours.items() if one < hour - gap}
            if len(some) < _LEAST_HOURS:
                return None
            flagged = {one: set(self.flagged.get(one, ())) for one in some}
            for series, begin in self.begins.items():
                for one in some:
                    if one < begin:
                        flagged[one].add(series)
            newest = [counts for one, counts in self.hours.items() if one >= hour - gap]
            names = names_of([*some.values(), *newest, *self._quarters.values()])
            self._profile = (hour, gap), Profile(names, some, flagged)
        return self._profile[1]

    def _windows(self, quarter: int) -> list[tuple[str, list[tuple[int, Counts]], float]]:
        """The windows that end with ``quarter``: name, rows by hour, and how often a day there is one."""
        short = [
            (one // QUARTERS, self._quarters.get(one, Counts()))
            for one in range(quarter - 2 * QUARTERS + 1, quarter + 1)
        ]
        whole_hour = quarter % QUARTERS == QUARTERS - 1
        hour = quarter // QUARTERS
        found: list[tuple[str, list[tuple[int, Counts]], float]] = []
        if sum(counts.rows for _, counts in short) >= _LEAST_ROWS:
            a_day = 24.0 * QUARTERS
            found += [("1 h", short[QUARTERS:], a_day), ("2 h", short, a_day)]
        elif whole_hour and (some := self._last_rows(hour, short[QUARTERS:])):
            found.append((f"{WINDOW_ROWS} rows", some, 24.0))
        if whole_hour:
            day = [(one, self.hours[one]) for one in range(hour - 23, hour) if one in self.hours]
            day += short[QUARTERS:]
            if sum(counts.rows for _, counts in day) >= WINDOW_ROWS and len(day) >= 23:
                found.append(("24 h", day, 24.0))
        return found

    def _last_rows(self, hour: int, last: Sequence[tuple[int, Counts]]) -> list[tuple[int, Counts]]:
        """The newest hours with 7,200 rows together; none if ten days have fewer."""
        parts = list(last)
        rows = sum(counts.rows for _, counts in parts)
        for one in range(hour - 1, hour - _MOST_HOURS, -1):
            if rows >= WINDOW_ROWS:
                return parts
            if one in self.hours:
                parts.append((one, self.hours[one]))
                rows += self.hours[one].rows
        return []
