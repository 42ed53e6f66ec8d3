"""Messages to columns, ready to be inserted.

Arrow reads the JSON of a whole batch in C++ and without the GIL, some twelve times as fast as one model
after the other. It is less strict than the message classes, so its result is checked column by column;
where anything at all is odd, the batch is halved, and what is left in the end goes through the codec
message by message, which decides and names what is wrong.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj
from pydantic import BaseModel

from connectors.clickhouse.schema.columns import ADDED, PLACE, WRITER, TableColumn, columns_of
from streams.core.codec import decode, decode_dead_letter
from streams.core.errors import UndecodableError
from streams.core.label_version import HUMAN
from streams.core.messages import DeadLetter, Message
from streams.core.records import Record
from streams.observability.collectors import release

# Below this, halving costs more than it saves.
_FEW = 128
# What DateTime64 holds, and shows as it was.
EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
LATEST = datetime(2299, 12, 31, 23, 59, 59, tzinfo=UTC)
_INT64 = 2**63
_DECIDED_BY = "decided_by"


@dataclass(frozen=True)
class Refused:
    """A record that cannot be stored, and why. ``row_id`` where the message could be read."""

    record: Record
    reason: str
    error: str
    row_id: str = ""
    label_version: str = ""


@dataclass(frozen=True)
class Batch:
    """``rows``: an Arrow table, one row for each of ``records`` in order, with their places in Kafka."""

    rows: Any
    records: Sequence[Record]

    def __len__(self) -> int:
        return len(self.records)

    def slice(self, start: int, length: int) -> Batch:
        """A part of it, without a copy."""
        return Batch(self.rows.slice(start, length), self.records[start : start + length])

    def where(self, keep: Callable[[Record], bool]) -> Batch:
        """The rows whose record ``keep`` wants."""
        kept = [index for index, record in enumerate(self.records) if keep(record)]
        if len(kept) == len(self.records):
            return self
        return Batch(self.rows.take(pa.array(kept, pa.int64())), [self.records[index] for index in kept])


def to_batch(
    message: type[Message], records: Sequence[Record], topic_id: UUID
) -> tuple[Batch, list[Refused]]:
    """``records`` of one topic as columns of ``message``'s table, and those that are no such message."""
    pieces, good, refused = [], list[Record](), list[Refused]()
    for part, rows, bad in _decoded(message, records):
        pieces.append(_with_places(rows, part, topic_id))
        good += part
        refused += bad
    return Batch(_joined(columns_of(message), pieces), good), refused


def dead_letter_batch(records: Sequence[Record], topic_id: UUID) -> Batch:
    """Dead letters as columns. One whose headers cannot be read is stored with what is known of it."""
    letters = [_dead_letter(record) for record in records]
    columns = columns_of(DeadLetter)
    return Batch(
        _joined(columns, [_with_places(_rows_of(columns, letters), records, topic_id)]), list(records)
    )


def bare_batch(refused: Sequence[Refused], topic_id: UUID) -> Batch:
    """Dead letters that the table refused: of each the bytes, the place, and why."""
    records = [one.record for one in refused]
    letters = [_bare_letter(one.record, "unstorable", one.error) for one in refused]
    columns = columns_of(DeadLetter)
    return Batch(_joined(columns, [_with_places(_rows_of(columns, letters), records, topic_id)]), records)


def _bare_letter(record: Record, reason: str, error: str) -> DeadLetter:
    """What can be said of a record of the dead-letter topic that is no dead letter: its bytes, its place."""
    return DeadLetter(
        step="store",
        reason=reason,
        error=_clean(error),
        failed_at=datetime.fromtimestamp(max(0, record.timestamp) / 1000, UTC),
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        payload=record.value or b"",
    )


def _decoded(
    message: type[Message], records: Sequence[Record]
) -> Iterable[tuple[Sequence[Record], Any, list[Refused]]]:
    """``records`` in parts, each as columns, with what was refused of it."""
    if not records:
        return
    columns = columns_of(message)
    rows = _read_json(columns, records)
    if rows is not None:
        yield records, rows, []
    elif len(records) > _FEW:
        half = len(records) // 2
        yield from _decoded(message, records[:half])
        yield from _decoded(message, records[half:])
    else:
        yield _decoded_strictly(message, records)


def _read_json(columns: Sequence[TableColumn], records: Sequence[Record]) -> Any:
    """The records' values as a table; None if any of them needs a closer look."""
    values = [record.value for record in records]
    # One object each: then as many rows as records means one row for every record, in order.
    if not all(value is not None and value[:1] == b"{" and value[-1:] == b"}" for value in values):
        return None
    text = b"\n".join(values)  # type: ignore[arg-type]
    try:
        rows = pj.read_json(
            io.BytesIO(text),
            read_options=pj.ReadOptions(use_threads=False, block_size=len(text) + 1),
            parse_options=pj.ParseOptions(
                # Times as text: read as times at once, one without a zone would pass.
                explicit_schema=pa.schema(
                    [(column.name, pa.string() if column.is_time else column.arrow) for column in columns]
                ),
                newlines_in_values=True,
                unexpected_field_behavior="ignore",
            ),
        )
        rows.validate(full=True)  # among others: strings are UTF-8
        rows = rows.select([column.name for column in columns]).combine_chunks()
        rows = rows.cast(pa.schema([(column.name, column.arrow) for column in columns]))
        rows = _with_deciders(rows, text)
    except (pa.ArrowException, ValueError, OSError):
        return None
    if rows.num_rows != len(records):
        return None
    return rows if all(_fits(column, rows[column.name]) for column in columns) else None


def _with_deciders(rows: Any, text: bytes) -> Any:
    """``rows`` of the JSON ``text``; where messages do not say who decided, as those of older releases, what
    the message class takes for it.
    """
    if _DECIDED_BY not in rows.column_names:
        return rows
    said = rows[_DECIDED_BY]
    # Else some of them say null, which is not the same and is looked at closely.
    if said.null_count and text.count(b'"decided_by"') == len(said) - said.null_count:
        before = pc.if_else(pc.equal(rows["label_version"], HUMAN), "human", "llm")
        place = rows.column_names.index(_DECIDED_BY)
        rows = rows.set_column(place, _DECIDED_BY, pc.coalesce(said, before))
    return rows


def _fits(column: TableColumn, values: Any) -> bool:
    """Whether ``values`` are what the message class demands. A null may also be a default left out."""
    if values.null_count and not column.nullable:
        return False
    if column.not_empty and pc.min(pc.binary_length(values)).as_py() == 0:
        return False
    if column.allowed and not pc.all(pc.is_in(values, pa.array(column.allowed))).as_py():
        return False
    if column.is_time:
        return _within(values, EARLIEST, LATEST)
    if column.least is not None or column.most is not None:
        return not pc.any(pc.is_nan(values)).as_py() and _within(values, column.least, column.most)
    return not pa.types.is_list(column.arrow) or _list_fits(values)


def _list_fits(values: Any) -> bool:
    inner = values.combine_chunks().flatten() if isinstance(values, pa.ChunkedArray) else values.flatten()
    if inner.null_count:
        return False
    if not pa.types.is_struct(inner.type):
        return True
    parts = dict(zip((field.name for field in inner.type), inner.flatten(), strict=True))
    for part in parts.values():
        if part.null_count:
            return False
        # The only numbers inside lists are confidences.
        if pa.types.is_floating(part.type) and (pc.any(pc.is_nan(part)).as_py() or not _within(part, 0, 1)):
            return False
    return True


def _within(values: Any, least: Any, most: Any) -> bool:
    found = pc.min_max(values).as_py()
    if found["min"] is None:
        return True
    return (least is None or found["min"] >= least) and (most is None or found["max"] <= most)


def _decoded_strictly(
    message: type[Message], records: Sequence[Record]
) -> tuple[Sequence[Record], Any, list[Refused]]:
    good, models, refused = list[Record](), list[BaseModel](), list[Refused]()
    for record in records:
        try:
            model = decode(message, record.value)
            _refuse_times(model)
        except UndecodableError as error:
            refused.append(Refused(record, error.reason, str(error)))
        else:
            good.append(record)
            models.append(model)
    return good, _rows_of(columns_of(message), models), refused


def _refuse_times(model: BaseModel) -> None:
    for column in columns_of(type(model)):
        if column.is_time and not EARLIEST <= getattr(model, column.name) <= LATEST:
            raise UndecodableError(
                f"{column.name}: ClickHouse holds times from 1900 to 2299", reason="out-of-range"
            )


def _dead_letter(record: Record) -> DeadLetter:
    try:
        letter = decode_dead_letter(record.value, record.headers)
        _refuse_times(letter)
        if not (
            -(2**31) <= letter.partition < 2**31
            and -_INT64 <= letter.offset < _INT64
            and letter.attempts < _INT64
        ):
            raise UndecodableError("dead-letter header: a number is too large")
    except UndecodableError as error:
        return _bare_letter(record, error.reason, str(error))
    return letter


def _rows_of(columns: Sequence[TableColumn], models: Sequence[BaseModel]) -> Any:
    data = [model.model_dump() for model in models]
    arrays = [pa.array([one[column.name] for one in data], column.arrow) for column in columns]
    return pa.table(arrays, names=[column.name for column in columns])


def _with_places(rows: Any, records: Sequence[Record], topic_id: UUID) -> Any:
    count = len(records)
    places = [
        pa.array([records[0].topic] * count if count else [], PLACE[0].arrow),
        pa.array([topic_id.bytes] * count, PLACE[1].arrow),
        pa.array([record.partition for record in records], PLACE[2].arrow),
        pa.array([record.offset for record in records], PLACE[3].arrow),
        pa.array([_release()] * count, WRITER.arrow),
    ]
    for column, values in zip(ADDED, places, strict=True):
        rows = rows.append_column(column.name, values)
    return rows


@cache
def _release() -> str:
    return release()


def _joined(columns: Sequence[TableColumn], pieces: Sequence[Any]) -> Any:
    schema = pa.schema([(column.name, column.arrow) for column in (*columns, *ADDED)])
    if not pieces:
        return schema.empty_table()
    return pa.concat_tables([piece.cast(schema) for piece in pieces]).combine_chunks()


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
