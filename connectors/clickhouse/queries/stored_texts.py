"""Every text that the result tables hold of rows, block by block."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import result_table
from connectors.clickhouse.schema.tables import ANSWERS, AUGMENTED, DEAD_LETTERS, LABELED
from streams.core.settings import Settings

_BLOCK_ROWS = 2_000
_DOMAIN = "ifNull(toString(source_domain), '')"
_IDS, _NO_IDS = "[ifNull(user_id, ''), ifNull(session_id, '')]", "['', '']"
# SQL: the texts of a row of each table, and its user and session.
_TEXTS = {
    LABELED: (f"[text, {_DOMAIN}]", _IDS),
    AUGMENTED: (f"arrayConcat([text, {_DOMAIN}], variants, arrayMap(one -> one.1, rejected))", _IDS),
    DEAD_LETTERS: ("[error, payload]", _NO_IDS),
    ANSWERS: ("[text]", _NO_IDS),
}


def stream_texts(
    client: ClickHouseClient,
    settings: Settings,
    take: Callable[[str, Sequence[str], Sequence[Sequence[str]], Sequence[Sequence[str]]], None],
) -> None:
    """Call ``take`` with a table's name, ids of rows, their texts, and user and session of each, in this
    thread. The texts of a dead letter are its error and its bytes.

    Raises:
        UnavailableError, AccessError.
    """
    for table, (texts, people) in _TEXTS.items():

        def block(columns: Sequence[Sequence[str]], table: str = table) -> None:
            take(table, columns[0], columns[1], columns[2])

        client.stream(
            f"SELECT row_id, arrayMap(one -> toValidUTF8(one), {texts}), "
            f"arrayMap(one -> toValidUTF8(one), {people}) FROM {result_table(settings, table)}",
            {},
            block,
            block_rows=_BLOCK_ROWS,
        )
