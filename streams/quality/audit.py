"""The audit: which rows people are asked about at random, and how likely each one was to be drawn.

A row is drawn if its number (`draw_number`) is below `REVIEW_AUDIT_SHARE`, or if it is one of the lowest
`REVIEW_AUDIT_PER_LABEL` of its week and label; the number after these is the probability. Nothing is stored
for a row before it is answered.

Rows are asked about in the order of number / probability, which is uniform between 0 and 1 for each drawn
row: where people answer only some of them, these are a random sample too. Which rows are the lowest of a
label is certain when their week is over. In the present week a row is offered only if its label has so many
drawn rows already that its probability is the share.

The salt is not secret: it only makes the draw independent of times and of how ids are numbered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.queries.draw import (
    Audited,
    Candidate,
    KnownDraws,
    lowest_draws,
)
from connectors.clickhouse.queries.draw_by_label import lowest_draws_by_label
from connectors.clickhouse.queries.label_versions import current_version, list_versions
from connectors.clickhouse.queries.places import newest_time
from streams.core.messages import Row
from streams.core.settings import Settings
from streams.core.times import micros_of, moment
from streams.ports.lookups import Place

_WEEK = timedelta(days=7)
_BITS = 53


@dataclass(frozen=True)
class DrawnRow:
    """A row of the audit. ``probability``: with which it was drawn, 0..1. ``order``: uniform, 0..1."""

    place: Place
    probability: float
    order: float


@dataclass(frozen=True)
class Draw:
    """The rows of the audit, in the order in which people are asked; ``total`` counts those too that are not
    in ``rows``. ``since``: the least time of a row. ``bounds``: below which number the rows of a label were
    drawn in the week before the present one.
    """

    rows: Sequence[DrawnRow]
    total: int
    since: datetime
    bounds: Mapping[str, float] = field(default_factory=dict)

    def audited(self, settings: Settings) -> Audited | None:
        """The rows that people answer blindly; None if none are drawn."""
        share = settings.review_audit_share
        if share <= 0.0 and not self.bounds:
            return None
        return Audited(salt_of(settings), share, self.since, self.since + _WEEK, self.bounds)


def salt_of(settings: Settings) -> str:
    """The salt of this deployment's draw."""
    return f"{settings.topic_prefix}/{settings.source_table}/"


def draw_number(salt: str, place: Place) -> float:
    """The number of a row: uniform, 0 <= number < 1; as the tables' queries make it."""
    identity = micros_of(place.created_at).to_bytes(8, "little", signed=True) + place.row_id.encode(
        "utf-8", "surrogatepass"
    )
    digest = sha256(salt.encode() + identity).digest()
    return (int.from_bytes(digest[:8], "little") >> 64 - _BITS) / (1 << _BITS)


def asks_second(settings: Settings, place: Place) -> bool:
    """Whether a second person is asked about a drawn row (`REVIEW_OVERLAP`)."""
    return draw_number(salt_of(settings) + "second/", place) < settings.review_overlap


def week_of(at: datetime) -> datetime:
    """The beginning of the week, a Monday, UTC."""
    day = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return day - timedelta(days=day.weekday())


def verifies(settings: Settings, row: Row) -> bool:
    """Whether a row's variants are labelled again (`AUGMENT_VERIFY`)."""
    if settings.augment_verify <= 0.0:
        return False
    number = draw_number(salt_of(settings) + "verify/", Place(row.created_at, row.row_id))
    return number < settings.augment_verify


async def draw_rows(
    client: ClickHouseClient, settings: Settings, now: datetime, most: int, known: KnownDraws | None = None
) -> Draw | None:
    """The audit's rows of the newest row's week and the week before, at most ``most``; None without rows.
    ``known``: from earlier looks, and for later ones.

    Raises:
        UnavailableError, ConfigurationError: as the client.
    """
    found = await newest_time(client, settings, micros_of(now))
    if found is None:
        return None
    newest = moment(found)
    monday = week_of(newest)
    known = KnownDraws() if known is None else known
    salt, share, each = salt_of(settings), settings.review_audit_share, settings.review_audit_per_label
    version = ""
    if each:
        current = current_version(await list_versions(client, settings))
        version = "" if current is None else current.version
    drawn, total = await lowest_draws(
        client,
        settings,
        salt=salt,
        share=share,
        since=monday,
        until=newest,
        version=version,
        most=most,
        known=known,
    )
    by_label: Mapping[str, tuple[Sequence[Candidate], float]] = {}
    # The week that has ended.
    if version:
        before, count, by_label = await lowest_draws_by_label(
            client,
            settings,
            salt=salt,
            share=share,
            count=each,
            since=monday - _WEEK,
            until=monday,
            version=version,
            most=most,
            known=known,
        )
    else:
        before, count = await lowest_draws(
            client,
            settings,
            salt=salt,
            share=share,
            since=monday - _WEEK,
            until=monday - datetime.resolution,
            version="",
            most=most,
            known=known,
        )
    total += count
    drawn = sorted([*drawn, *before], key=lambda one: (one.draw, one.place))[:most]
    more = sum(one.draw >= share for some, _ in by_label.values() for one in some)
    rows = combine(drawn, by_label, share=share, each=each if version else 0, monday=monday)
    bounds = {label: max(share, above) for label, (_, above) in by_label.items()}
    return Draw(rows, total + more, monday - _WEEK, bounds)


def combine(
    drawn: Sequence[Candidate],
    by_label: Mapping[str, tuple[Sequence[Candidate], float]],
    *,
    share: float,
    each: int,
    monday: datetime,
) -> list[DrawnRow]:
    """The audit's rows in the order in which people are asked.

    ``drawn``: rows whose number is below ``share``. ``by_label``: of the week that ended on ``monday``, each
    label's rows with the ``each`` lowest numbers, and the least number above theirs.
    """
    found: dict[Place, DrawnRow] = {}
    for some, above in by_label.values():
        probability = max(share, above)
        for one in some:
            found[one.place] = DrawnRow(one.place, probability, one.draw / probability)
    present = Counter(one.label for one in drawn if one.place.created_at >= monday)
    for one in drawn:
        # Of another label's row the probability is not certain yet.
        certain = each == 0 or share >= 1.0 or one.place.created_at < monday or present[one.label] > each
        if certain and one.place not in found:
            found[one.place] = DrawnRow(one.place, share, one.draw / share)
    return sorted(found.values(), key=lambda one: (one.order, one.place))
