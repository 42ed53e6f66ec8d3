"""Restores the zone of ``DateTime('zone')`` columns in a Native stream, which the engine omits.

The engine writes for clients of the oldest protocol, which knew only ``DateTime``. Without its zone the
client would see another type than from a ClickHouse server. Only the type's name in a block's header differs.
So the block is parsed column by column, and the name is replaced. A block with an unknown type stays as it
is.
"""

import re
from collections.abc import Iterator, Sequence

_PLAIN = b"\x08DateTime"  # the name with its length in front, as in a header
_FIXED = {
    **dict.fromkeys(("Int8", "UInt8", "Bool", "Enum8", "Nothing"), 1),
    **dict.fromkeys(("Int16", "UInt16", "Enum16", "Date", "BFloat16"), 2),
    **dict.fromkeys(("Int32", "UInt32", "Float32", "Date32", "DateTime", "IPv4", "Time"), 4),
    **dict.fromkeys(("Int64", "UInt64", "Float64", "DateTime64", "Time64"), 8),
    **dict.fromkeys(("Int128", "UInt128", "UUID", "IPv6"), 16),
    **dict.fromkeys(("Int256", "UInt256"), 32),
    **dict.fromkeys(("Decimal32",), 4),
    **dict.fromkeys(("Decimal64",), 8),
    **dict.fromkeys(("Decimal128",), 16),
    **dict.fromkeys(("Decimal256",), 32),
}
_TYPE = re.compile(r"^(\w+)(?:\((.*)\))?$", re.DOTALL)
_TUPLE_ELEMENT = re.compile(r"^(?:`(?:[^`\\]|\\.)*`|[A-Za-z_]\w*)\s+(?=[A-Z])")
_INDEX_BYTES = (1, 2, 4, 8)


class _CannotWalk(Exception):
    """A type of unknown length, or bytes that do not match the header."""


def restore_zones(blocks: Iterator[bytes], types: Sequence[str]) -> Iterator[bytes]:
    """Pass Native blocks on with the declared ``types`` of ``DateTime`` columns in their headers."""
    for block in blocks:
        try:
            yield _restore(block, types) if _PLAIN in block else block
        except (_CannotWalk, IndexError):
            yield block


def may_need_zones(block: bytes) -> bool:
    """Whether a block could have a column without its zone; all blocks of a result are alike."""
    return _PLAIN in block


def needs_zones(types: Sequence[str]) -> bool:
    """Whether any of the columns has a type that the engine writes without its zone."""
    return any(name.startswith("DateTime(") for name in types)


def _restore(data: bytes, types: Sequence[str]) -> bytes:
    out, copied, at = [], 0, 0
    while at < len(data):
        columns, at = _varint(data, at)
        rows, at = _varint(data, at)
        for column in range(columns):
            size, at = _varint(data, at)
            at += size  # the column's name
            size, after = _varint(data, at)
            name = data[after : after + size].decode()
            if name == "DateTime" and types[column].startswith("DateTime("):
                declared = types[column].encode()
                out += [data[copied:at], _leb(len(declared)), declared]
                copied = after + size
            at = after + size
            if rows:
                at = _skip(data, at + 8 * _prefixes(name), name, rows)
    if at != len(data):
        raise _CannotWalk
    return b"".join([*out, data[copied:]])


def _skip(data: bytes, at: int, name: str, rows: int) -> int:
    """The offset after ``rows`` values of type ``name``."""
    kind, arguments = _split(name)
    if kind in _FIXED:
        return at + _FIXED[kind] * rows
    if kind.startswith("Interval"):
        return at + 8 * rows
    if kind == "String":
        for _ in range(rows):
            size = data[at]
            at += 1
            if size > 127:
                size, at = _varint(data, at - 1)
            at += size
        return at
    if kind == "FixedString":
        return at + int(arguments[0]) * rows
    if kind == "Decimal":
        digits = int(arguments[0])
        return at + rows * next(
            size for limit, size in ((9, 4), (18, 8), (38, 16), (76, 32)) if digits <= limit
        )
    if kind == "Nullable":
        return _skip(data, at + rows, arguments[0], rows)
    if kind == "SimpleAggregateFunction":
        return _skip(data, at, arguments[1], rows)
    if kind in ("Array", "Map"):
        last = at + 8 * (rows - 1)
        inner, at = int.from_bytes(data[last : last + 8], "little"), at + 8 * rows
        for argument in arguments if inner else ():
            at = _skip(data, at, argument, inner)
        return at
    if kind == "Tuple":
        for argument in arguments:
            at = _skip(data, at, _TUPLE_ELEMENT.sub("", argument), rows)
        return at if arguments else at + rows
    if kind == "LowCardinality":
        return _skip_low_cardinality(data, at, arguments[0])
    raise _CannotWalk(name)


def _skip_low_cardinality(data: bytes, at: int, dictionary: str) -> int:
    # Format: flags with the index type in the low byte, number of keys, keys, number of rows, indexes.
    index_bytes = _INDEX_BYTES[data[at]]
    keys = int.from_bytes(data[at + 8 : at + 16], "little")
    kind, arguments = _split(dictionary)
    at = _skip(data, at + 16, arguments[0] if kind == "Nullable" else dictionary, keys)
    rows = int.from_bytes(data[at : at + 8], "little")
    return at + 8 + index_bytes * rows


def _prefixes(name: str) -> int:
    """The number of dictionaries, eight bytes each, before a column's data."""
    return len(re.findall(r"\bLowCardinality\(", name))


def _split(name: str) -> tuple[str, list[str]]:
    """``Map(String, Array(Int8))`` is ``Map`` with ``String`` and ``Array(Int8)``."""
    match = _TYPE.match(name.strip())
    if not match:
        raise _CannotWalk(name)
    parts, depth, quoted = [""], 0, False
    for character in match.group(2) or "":
        if character == "'":
            quoted = not quoted
        if not quoted:
            depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0 and not quoted:
            parts.append("")
        else:
            parts[-1] += character
    return match.group(1), [part.strip() for part in parts if part.strip()]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _leb(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
