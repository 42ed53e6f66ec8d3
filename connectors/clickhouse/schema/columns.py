"""The columns of the result tables, made from the message classes: one declaration for DDL and inserts."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cache, cached_property
from typing import Any, Literal, Union

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from streams.core.messages import Column


def _arrow() -> Any:
    """Arrow, imported when its first type is used: only inserts need it, and the import takes 0.3 s."""
    import pyarrow

    return pyarrow


@dataclass(frozen=True)
class TableColumn:
    """A column: its type in ClickHouse and in Arrow, and the message class's constraints on a value.

    ``default``: of rows without a value, as an expression. ``allowed``: all values that there are.
    """

    name: str
    type: str
    make_arrow: Callable[[], Any]
    comment: str = ""
    nullable: bool = False
    not_empty: bool = False
    least: float | None = None
    most: float | None = None
    default: str = ""
    allowed: tuple[str, ...] = ()

    @cached_property
    def arrow(self) -> Any:
        """The type in Arrow."""
        return self.make_arrow()

    @property
    def is_time(self) -> bool:
        return self.make_arrow is _time


def _time() -> Any:
    return _arrow().timestamp("us", "UTC")


# The position of a stored message in Kafka. The server sets `_stored_at`: it is not part of an insert.
PLACE = (
    TableColumn(
        "_topic", "LowCardinality(String)", lambda: _arrow().string(), "Kafka topic that it was stored from"
    ),
    TableColumn("_topic_id", "UUID", lambda: _arrow().binary(16), "that topic's incarnation"),
    TableColumn("_partition", "Int32", lambda: _arrow().int32(), "its partition there"),
    TableColumn("_offset", "Int64", lambda: _arrow().int64(), "its offset there"),
)
# Older sinks insert without it.
WRITER = TableColumn(
    "_writer", "LowCardinality(String)", lambda: _arrow().string(), "release of labelstream that stored it"
)
# What an insert adds to a message's own columns.
ADDED = (*PLACE, WRITER)
STORED_AT = "`_stored_at` DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'when it was stored, UTC'"

_SCALARS: dict[Any, tuple[str, Callable[[], Any]]] = {
    str: ("String", lambda: _arrow().string()),
    bytes: ("String", lambda: _arrow().binary()),
    bool: ("Bool", lambda: _arrow().bool_()),
    int: ("Int64", lambda: _arrow().int64()),
    float: ("Float64", lambda: _arrow().float64()),
    datetime: ("DateTime64(6, 'UTC')", _time),
}
_NARROW = {"Int32": lambda: _arrow().int32()}


@cache
def columns_of(message: type[BaseModel]) -> tuple[TableColumn, ...]:
    """One column for each field of ``message``, in the fields' order."""
    return tuple(_column(name, field) for name, field in message.model_fields.items())


def _column(name: str, field: FieldInfo) -> TableColumn:
    kind, arrow, nullable = _types(field.annotation)
    declared = next((entry for entry in field.metadata if isinstance(entry, Column)), None)
    given = None if declared is None else declared.type
    limits = [*field.metadata, *_inner_metadata(field.annotation)]
    return TableColumn(
        name,
        given or kind,
        _NARROW.get(given or "", arrow),
        field.description or "",
        nullable,
        not_empty=any(isinstance(limit, annotated_types.MinLen) and limit.min_length > 0 for limit in limits),
        least=next((_number(limit.ge) for limit in limits if isinstance(limit, annotated_types.Ge)), None),
        most=next((_number(limit.le) for limit in limits if isinstance(limit, annotated_types.Le)), None),
        default="" if declared is None else declared.default,
        allowed=_allowed(field.annotation),
    )


def _types(annotation: Any) -> tuple[str, Callable[[], Any], bool]:
    """ClickHouse type, a function for the Arrow type, and whether null is allowed."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _types(typing.get_args(annotation)[0])
    if origin is Literal:
        return *_SCALARS[str], False
    if origin is list:
        kind, arrow, _ = _types(typing.get_args(annotation)[0])
        return f"Array({kind})", lambda: _arrow().list_(arrow()), False
    if origin in (types.UnionType, Union):
        (inner,) = (kind for kind in typing.get_args(annotation) if kind is not type(None))
        kind, arrow, _ = _types(inner)
        return f"Nullable({kind})", arrow, True
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        parts = columns_of(annotation)
        kind = ", ".join(f"{part.name} {part.type}" for part in parts)
        return f"Tuple({kind})", lambda: _arrow().struct([(part.name, part.arrow) for part in parts]), False
    kind, arrow = _SCALARS[annotation]
    return kind, arrow, False


def _allowed(annotation: Any) -> tuple[str, ...]:
    """The values of a text that is one of some."""
    return typing.get_args(annotation) if typing.get_origin(annotation) is Literal else ()


def _inner_metadata(annotation: Any) -> list[Any]:
    """Constraints inside a union, as in ``Confidence | None``."""
    return [
        entry
        for part in typing.get_args(annotation)
        if typing.get_origin(part) is typing.Annotated
        for info in typing.get_args(part)[1:]
        for entry in (info.metadata if isinstance(info, FieldInfo) else [info])
    ]


def _number(limit: Any) -> float:
    return float(limit)
