"""SQL with which ClickHouse makes the messages of plain rows, to the same bytes as `plain_rows.py`.

Digests, JSON and headers take Python some 20 us a row, and the server a seventh of that. The SQL here is
equivalent to `content_of`, `short_id`, `traceparent_of`, `partition_of` (without its modulo) and `encode`,
for rows that `is_plain` accepts. Other rows are returned as they are. `SAMPLES` are rows to compare both
ways, which is done before the server's is used (`connectors.clickhouse.poller.bulk_source`).
"""

from __future__ import annotations

from connectors.clickhouse.source.table import SourceRow
from streams.core.messages import Row
from streams.core.text import PLAIN_RE2

# Python handles longer texts and names: their messages may be too large for the topic.
_LONGEST_TEXT = 65_536
_LONGEST_NAMES = 16_384
# Characters of which only quotes and backslashes need escaping in JSON.
_QUIET_RE2 = "^[ -~А-Яа-яЁё«»—]*$"

PARAMETERS = {"plain": PLAIN_RE2, "quiet": _QUIET_RE2}


def _quoted(text: str) -> str:
    # A setting of the server decides whether toJSONString escapes /.
    return rf"""concat('"', replaceAll(replaceAll({text}, '\\', '\\\\'), '"', '\\"'), '"')"""


def _number(digest: str) -> str:
    """The first 64 bits of a digest, as Python's int.from_bytes(..., "big")."""
    return f"reinterpretAsUInt64(reverse(substring({digest}, 1, 8)))"


def _hex(digest: str, size: int) -> str:
    return f"lower(hex(substring({digest}, 1, {size})))"


_FIELDS = {
    "row_id": _quoted("key"),
    "text": _quoted("text"),
    "created_at": "concat('\"', created, 'Z\"')",
    "user_id": f"ifNull({_quoted('user_')}, 'null')",
    "session_id": f"ifNull({_quoted('session_')}, 'null')",
    "source_domain": f"ifNull({_quoted('domain_')}, 'null')",
}


def _json() -> str:
    """The message up to the value of its last field, `polled_at`."""
    *names, last = Row.model_fields
    parts, before = [], "{"
    for name in names:
        parts += [f"'{before}\"{name}\":'", _FIELDS[name]]
        before = ","
    return f'concat({", ".join(parts)}, \',"{last}":"\')'


# With a blank between them: two invalid halves of a character could form a valid one.
_NAMES = ", ' ', ".join(f"ifNull({name}, '')" for name in ("id_", "user_", "session_", "domain_"))
_PLAIN = " AND ".join(
    [
        "at >= 0",
        "length(text) > {least:UInt64}",
        f"length(text) <= {_LONGEST_TEXT}",
        "match(text, {plain:String})",
        f"length(names) <= {_LONGEST_NAMES}",
        "match(names, {quiet:String})",
    ]
)
_CREATED = (
    "concat(formatDateTime(fromUnixTimestamp64Micro(at, 'UTC'), '%Y-%m-%dT%H:%i:%S', 'UTC'), "
    "if(at % 1000000 = 0, '', concat('.', leftPad(toString(at % 1000000), 6, '0'))))"
)
_CONTENT = (
    "SHA256(concat(toString(length(id)), '/', toString(at), '/', toString(length(user)), '/', "
    "id, user, text))"
)
_TRACED = r"SHA256(concat(key, '\0', created, '+00:00'))"
_PARTS = ("id_", "text_", "user_", "session_", "domain_")
_RAW = ", ".join(f"ifNull(concat(toString(length({name})), ':', {name}, ','), '-,')" for name in _PARTS)


_SQL = {
    "at": "at",
    "content": _number("sha"),
    "id_number": f"if(id = '', 0, {_number('id_sha')})",
    "text_number": _number("SHA256(lowerUTF8(text))"),
    "plain": "plain",
    "key": "key",
    "value": f"if(plain, {_json()}, concat({_RAW}))",
    "created_at": "concat(created, '+00:00')",
    "trace": "concat('00-', substring(traced, 1, 32), '-', substring(traced, 33), '-00')",
    "mark": f"concat(toString(at), '/', {_hex('sha', 8)}, '/', "
    f"if(id = '', '0000000000000000', {_hex('id_sha', 8)}))",
}
COLUMNS = tuple(_SQL)


def making(rows: str) -> str:
    """SQL that makes `COLUMNS` of each row of ``rows``: a query for `at` (Int64, microseconds since 1970),
    `id_`, `text_`, `user_`, `session_` and `domain_` (Nullable(String)).

    `value` is the message of a plain row without its end, the time of polling; for another row it holds those
    five texts, as `parts` reads them.
    """
    columns = ",\n    ".join(f"{sql} AS {name}" for name, sql in _SQL.items())
    return f"""
SELECT {columns}
FROM (
    SELECT *, ifNull(id_, '') AS id, ifNull(text_, '') AS text, ifNull(user_, '') AS user,
        {_CONTENT} AS sha, SHA256(id) AS id_sha, {_CREATED} AS created,
        if(id = '', concat({_hex("sha", 16)}, ':1'), id) AS key,
        {_hex(_TRACED, 24)} AS traced, concat({_NAMES}) AS names, {_PLAIN} AS plain
    FROM ({rows})
)"""


def parts(value: bytes) -> list[bytes | None]:
    """Id, text, user, session and domain of a row that is not plain: netstrings, and a dash for NULL."""
    found: list[bytes | None] = []
    at = 0
    while at < len(value):
        if value[at : at + 1] == b"-":
            found.append(None)
            at += 2
            continue
        colon = value.index(b":", at)
        end = colon + 1 + int(value[at:colon])
        found.append(value[colon + 1 : end])
        at = end + 1
    return found


def _text(value: bytes | None) -> str:
    return "CAST(NULL, 'Nullable(String)')" if value is None else f"toNullable(unhex('{value.hex()}'))"


SAMPLES = (
    SourceRow(1_764_000_000_000_000, b"1", b"1", "Где мой заказ?".encode(), b"u", b"s", "доставка".encode()),
    SourceRow(
        1_000_001,
        b"",
        None,
        "".join(
            map(chr, [*range(33, 127), 32, *range(0x410, 0x450), 0x401, 0x451, 171, 187, 0x2014])
        ).encode(),
        b'\\" /\\/',
        None,
        b"",
    ),
    SourceRow(4_102_444_799_999_999, b"", b'a"b\\/~c', b'ABCD /\\\\/ \\" /', None, b"", None),
    SourceRow(0, b"", b"", "ЁЖ «иК» — 12".encode(), b"", b"", b""),
)


def samples() -> str:
    """`SAMPLES` as a query for `making`."""
    return " UNION ALL ".join(
        f"SELECT toInt64({row.micros}) AS at, {_text(row.id)} AS id_, {_text(row.text)} AS text_, "
        f"{_text(row.user)} AS user_, {_text(row.session)} AS session_, {_text(row.domain)} AS domain_"
        for row in SAMPLES
    )
