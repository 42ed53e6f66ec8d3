"""`labelstream gold import`: labels from a file, published as labels of a person."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from agents.taxonomy import load_taxonomy
from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.erasure.erased_list import ErasedRows
from connectors.clickhouse.queries.given_labels import first_of_texts
from connectors.clickhouse.queries.gold import human_answers, write_answers
from connectors.clickhouse.queries.places import times_of
from connectors.clickhouse.queries.review import current_of
from connectors.kafka.connection import connection
from connectors.kafka.producer import LeasedProducer
from streams.core.errors import ConfigurationError, RefusedError
from streams.core.messages import Labeled
from streams.core.settings import Settings
from streams.core.topics import Topics
from streams.ports.lookups import Place
from streams.ports.review import NO_LABEL, NOT_SURE
from streams.privacy.door import opened
from streams.quality.gold_file import GoldRow, read_masked_gold
from streams.quality.settled import settled_rows
from streams.review.answers import answer_of, is_erased, label_of
from streams.review.topic import outgoing_label
from streams.runtime.secret import verify_secret

_NAME = re.compile(r"[\w.@-]{1,64}")
_AT_ONCE = 500


class LeftRow(NamedTuple):
    """A row of the file that was not imported. ``name``: its id, or its text."""

    row: int
    name: str
    why: str


@dataclass
class GoldImport:
    """``imported``: labels published; ``unchanged``: rows that have the label already; ``unlabeled``: rows of
    the file without one. ``refused``: rows whose label cannot be taken; ``absent``: rows that no table has.
    """

    imported: int = 0
    unchanged: int = 0
    unlabeled: int = 0
    refused: list[LeftRow] = field(default_factory=list)
    absent: list[LeftRow] = field(default_factory=list)
    warnings: Sequence[str] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        left = {name: [one._asdict() for one in getattr(self, name)] for name in ("refused", "absent")}
        return {**asdict(self), **left, "warnings": list(self.warnings)}


async def import_gold(settings: Settings, file: Path, who: str) -> GoldImport:
    """Publish the labels of ``file`` as labels of ``who``. Of rows that a person judged otherwise they are
    refused, but for rows that only ``who`` judged, in a file as well.

    A row without a time is the newest of its id. A text without an id is its first row, however many have it.

    Raises:
        ConfigurationError: the file, the taxonomy or the name cannot be used.
        UnavailableError.
    """
    if not _NAME.fullmatch(who):
        raise ConfigurationError(f"{who!r} is no name of a person", fix="use letters, digits, . @ _ -")
    await verify_secret(settings)
    topics = Topics(settings.topic_prefix)
    names = set(load_taxonomy(settings.taxonomy_path).names)
    rows = await read_masked_gold(file, settings)
    found = GoldImport(unlabeled=rows.unlabeled, warnings=rows.warnings)
    known = []
    for row in rows:
        if row.label is None or row.label in names:
            known.append(row)
        else:
            found.refused.append(_left(row, f"{row.label} is no label of the taxonomy"))
    async with ClickHouseClient.from_settings(settings) as client:
        wanted = await _by_place(client, settings, known, found)
        stored = await current_of(client, settings, list(wanted))
        # By the plain ids, before masking. After that the sink looks.
        erased = await ErasedRows(client, settings).now()
        gone = {place for place, row in stored.items() if is_erased(row, erased)}
        current = await _masked(settings, {place: row for place, row in stored.items() if place not in gone})
        standing = await _standing(client, settings, who)
        messages, answers = [], []
        for place, row in wanted.items():
            was = current.get(place)
            if place in gone:
                found.absent.append(_left(row, "the row was erased"))
            elif was is None and place in current:
                found.refused.append(_left(row, "the row cannot be masked"))
            elif was is None:
                found.absent.append(_left(row, "no table has the row"))
            elif (row.label or NO_LABEL) in standing.said.get(place, ()):
                found.unchanged += 1
            elif (other := standing.fixed.get(place)) is not None:
                found.refused.append(_left(row, f"a person says {other}"))
            elif row.label is None:
                chance = row.probability
                answers.append(answer_of(was, who, NO_LABEL, None, chance, after=was.labeled_at))
            else:
                try:
                    message = label_of(was, who, row.label, None, row.probability)
                except RefusedError as error:
                    found.refused.append(_left(row, str(error)))
                else:
                    messages.append(outgoing_label(topics, message, settings.topic_partitions))
        if answers:
            await write_answers(client, settings, answers)
            found.imported += len(answers)
    producer = LeasedProducer(connection(settings))
    try:
        for start in range(0, len(messages), _AT_ONCE):
            some = messages[start : start + _AT_ONCE]
            await producer.send_many(some)
            found.imported += len(some)
    finally:
        await producer.stop()
    return found


async def _masked(settings: Settings, rows: dict[Place, Labeled]) -> dict[Place, Labeled | None]:
    """The rows as they may be published: those from before masking are plain. None for one that cannot be
    masked.
    """
    places, found = list(rows), dict[Place, Labeled | None](rows)
    async with opened(settings) as door:
        if door is None:
            return found
        for start in range(0, len(places), _AT_ONCE):
            some = places[start : start + _AT_ONCE]
            masked = await door.rows([rows[place] for place in some], from_source=False)
            for place, one in zip(some, masked, strict=True):
                found[place] = one if isinstance(one, Labeled) else None
    return found


async def _by_place(
    client: ClickHouseClient, settings: Settings, rows: Sequence[GoldRow], found: GoldImport
) -> dict[Place, GoldRow]:
    """The rows by their places; what has none, or a second label for one place, is noted in ``found``."""
    ids = [one.row_id for one in rows if one.text is None and one.created_at is None]
    newest = {place.row_id: place for place in sorted(await times_of(client, settings, ids))}
    first = await first_of_texts(client, settings, [one.text for one in rows if one.text is not None])
    wanted: dict[Place, GoldRow] = {}
    for row in rows:
        if row.text is not None:
            place = first.get(row.text)
        elif row.created_at is not None:
            place = Place(row.created_at, row.row_id)
        else:
            place = newest.get(row.row_id)
        if place is None:
            found.absent.append(_left(row, "no table has the row"))
        elif (other := wanted.setdefault(place, row)).label != row.label:
            found.refused.append(_left(row, f"row {other.number} of the file says {other.label or NO_LABEL}"))
    return wanted


class _Standing(NamedTuple):
    """``said``: of each row the answer that counts, and what one person said of it. ``fixed``: the answers
    that the file of this person does not change.
    """

    said: dict[Place, set[str]]
    fixed: dict[Place, str]


async def _standing(client: ClickHouseClient, settings: Settings, who: str) -> _Standing:
    answers = [one async for one in human_answers(client, settings)]
    found = _Standing({}, {})
    for row in settled_rows(answers):
        if row.judged:
            told = row.label or NO_LABEL
            found.said[row.place] = {told}
            if row.last.who != who or row.last.drawn_by is not None:
                found.fixed[row.place] = told
    for one in answers:
        if one.who == who and one.answer != NOT_SURE:
            found.said.setdefault(Place(one.created_at, one.row_id), set()).add(one.label or NO_LABEL)
    return found


def _left(row: GoldRow, why: str) -> LeftRow:
    return LeftRow(row.number, row.text or row.row_id, why)
