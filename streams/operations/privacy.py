"""`labelstream privacy`: what masking would change in a file, and what stored texts still hold."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.queries.stored_texts import stream_texts
from connectors.clickhouse.schema.tables import DEAD_LETTERS
from connectors.files.mapping import Columns
from connectors.files.reading import read
from connectors.files.records import FileRecord, text_of
from connectors.files.understand import understand
from connectors.kafka.connection import connection
from connectors.kafka.tail import TailReader
from streams.core.errors import ConfigurationError, RefusedError
from streams.core.records import Record, partitions_of
from streams.core.settings import Settings
from streams.core.text import clean
from streams.core.topics import Topics
from streams.privacy.door import entities_of
from streams.privacy.pool import MaskedText, MaskingPool
from streams.privacy.pseudonyms import is_pseudonym

_PAGE = 1_000
_EXAMPLES = 5
# The fields of a message that hold what people wrote, and those with ids of people.
_FIELDS = ("text", "source_domain", "variants", "rejected")
_PEOPLE = {"user_id": "user", "session_id": "session"}
# Ids of rows are published as they are. One of these forms is a telephone number or an address.
_PERSONAL_ID = re.compile(r"(?:\+?7|8)9[0-9]{9}(?:~.*)?|[^@\s]+@[^@\s]+\.[^@\s]+")


async def try_file(settings: Settings, path: Path, most: int) -> dict[str, Any]:
    """How masking changes the texts of a file (lines of a `.txt`, else as `POST /upload` reads it), whatever
    PRIVACY is: ``texts``, ``changed``, ``failed``, ``counts`` by entity, and the first ``most`` changed ones
    with their number, `before` and `after`.

    Raises:
        ConfigurationError: the file cannot be read, or names cannot be recognised here.
    """
    pool = MaskingPool(entities_of(settings))
    counts: Counter[str] = Counter()
    shown: list[dict[str, Any]] = []
    texts = changed = failed = 0
    rows = _texts_in(path, settings)
    try:
        while some := await asyncio.to_thread(_some, rows):
            masked = await pool.mask([text for _, text in some])
            for (number, text), one in zip(some, masked, strict=True):
                texts += 1
                if one is None:
                    failed += 1
                elif one.text != text:
                    changed += 1
                    counts.update({entity.value: n for entity, n in one.counts.items()})
                    if len(shown) < most:
                        shown.append({"row": number, "before": text, "after": one.text})
    finally:
        await pool.close()
    return {"texts": texts, "changed": changed, "failed": failed, "counts": dict(counts), "changes": shown}


def _some(rows: Iterator[tuple[int, str]]) -> list[tuple[int, str]]:
    return list(islice(rows, _PAGE))


def _texts_in(path: Path, settings: Settings) -> Iterator[tuple[int, str]]:
    """The number and the clean text of each row that has one."""
    try:
        for number, text in _raw_texts(path, settings):
            if cleaned := clean(text):
                yield number, cleaned
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}", fix="name the file") from error
    except RefusedError as error:
        raise ConfigurationError(f"{path}: {error}", fix="give texts, one a line, in a .txt file") from error


def _raw_texts(path: Path, settings: Settings) -> Iterator[tuple[int, str]]:
    if path.suffix.lower() == ".txt":
        with path.open(encoding="utf-8", errors="replace") as lines:
            yield from enumerate(lines, 1)
        return
    found = understand(path, settings)
    columns = Columns.of({role: name for role, name in found.mapping.items() if name})
    if columns is None:
        raise ConfigurationError(
            f"which column of {path} is the text? It has {', '.join(found.reading.columns[:50])}",
            fix="call it text",
        )
    place = found.reading.columns.index(columns.text)
    for record in read(path, found.reading):
        if isinstance(record, FileRecord) and record.values[place] is not None:
            yield record.number, text_of(record.values[place])


class _Place(NamedTuple):
    """Where something was found: a table or a topic, and one row or message of it."""

    where: str
    row: str


class _Content(NamedTuple):
    """What a row or message may have of people: ``texts``, and ``plain``: `user` or `session` for an id that
    is no pseudonym, `id` for a row's that looks personal.
    """

    texts: list[str]
    plain: list[str]


class _Findings:
    def __init__(self) -> None:
        self.scanned: Counter[str] = Counter()
        self.counts: dict[str, Counter[str]] = {}
        self.rows: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    def add(self, place: _Place, plain: Sequence[str], masked: Sequence[MaskedText | None]) -> None:
        """What masking the texts of one row found, and which of its ids are ``plain``."""
        self.scanned[place.where] += 1
        found = Counter[str](plain)
        for one in masked:
            found.update({"unmaskable": 1} if one is None else {e.value: n for e, n in one.counts.items()})
        if not found:
            return
        self.rows[place.where] += 1
        self.counts.setdefault(place.where, Counter()).update(found)
        if len(examples := self.examples.setdefault(place.where, [])) < _EXAMPLES:
            examples.append(place.row)


async def scan(settings: Settings, report: Callable[[int], None] = lambda done: None) -> dict[str, Any]:
    """Look through the result tables and the topics for what would be masked. Values are never returned.

    ``scanned``: rows and messages; ``found``: by table or topic how many rows have something, how often by
    entity (`user` and `session`: ids that are no pseudonyms; `id`: that of a row is a telephone number or an
    address), and some of their ids or places
    (partition/offset).

    Raises:
        UnavailableError, AccessError, ConfigurationError.
    """
    pool, found = MaskingPool(entities_of(settings)), _Findings()

    async def look(rows: Sequence[tuple[_Place, _Content]]) -> None:
        masked = iter(await pool.mask([text for _, content in rows for text in content.texts]))
        for place, (texts, plain) in rows:
            found.add(place, plain, list(islice(masked, len(texts))))
        report(found.scanned.total())

    try:
        await _scan_tables(settings, look)
        async for rows in _messages(settings):
            await look(rows)
    finally:
        await pool.close()
    return {
        "scanned": dict(found.scanned),
        "found": [
            {
                "where": where,
                "rows": rows,
                "counts": dict(found.counts[where]),
                "examples": found.examples[where],
            }
            for where, rows in found.rows.items()
        ],
    }


async def _scan_tables(settings: Settings, look: Callable[[Sequence[tuple[_Place, _Content]]], Any]) -> None:
    loop = asyncio.get_running_loop()

    def take(
        table: str, ids: Sequence[str], texts: Sequence[Sequence[str]], people: Sequence[Sequence[str]]
    ) -> None:
        for start in range(0, len(ids), _PAGE):
            columns = [column[start : start + _PAGE] for column in (ids, texts, people)]
            rows = [
                (_Place(table, row_id), _stored(table, some, names, row_id))
                for row_id, some, names in zip(*columns, strict=True)
            ]
            asyncio.run_coroutine_threadsafe(look(rows), loop).result()

    async with ClickHouseClient.from_settings(settings) as client:
        await asyncio.to_thread(stream_texts, client, settings, take)


async def _messages(settings: Settings) -> AsyncIterator[list[tuple[_Place, _Content]]]:
    topics = Topics(settings.topic_prefix)
    tail = TailReader(connection(settings))
    for topic in topics.all():
        starts = dict.fromkeys(partitions_of(topic.name, topic.partitions or settings.topic_partitions), 0)
        bounds = await tail.bounds_many(list(starts))
        first = {where: bounds[where][0] for where in starts}
        async for records in tail.read_many(first, bounds):
            for start in range(0, len(records), _PAGE):
                yield [
                    (_Place(one.topic, f"{one.partition}/{one.offset}"), _published(one))
                    for one in records[start : start + _PAGE]
                ]


def _published(record: Record) -> _Content:
    error = (record.header("error") or b"").decode("utf-8", "replace")
    return _content_of((record.value or b"").decode("utf-8", "replace"), error)


def _stored(table: str, texts: Sequence[str], people: Sequence[str], row_id: str = "") -> _Content:
    if table == DEAD_LETTERS:
        error, payload = texts
        return _content_of(payload, error)
    return _made(texts, {**dict(zip(_PEOPLE, people, strict=True)), "row_id": row_id})


def _content_of(value: str, *others: str) -> _Content:
    """Of a message, and of ``others``, texts about it."""
    try:
        message = orjson.loads(value)
    except orjson.JSONDecodeError:
        return _made([*others, value], {})
    if not isinstance(message, dict):
        return _made([*others, value], {})
    return _made([*others, *(text for name in _FIELDS for text in _strings(message.get(name)))], message)


def _made(texts: Sequence[str], message: Mapping[str, Any]) -> _Content:
    plain = [
        kind
        for name, kind in _PEOPLE.items()
        if (id_ := message.get(name)) and not (isinstance(id_, str) and is_pseudonym(id_))
    ]
    row_id = message.get("row_id")
    if isinstance(row_id, str) and _PERSONAL_ID.fullmatch(row_id):
        plain.append("id")
    return _Content([text for text in texts if text], plain)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from _strings(one)
    elif isinstance(value, dict):
        yield from _strings(value.get("text"))
