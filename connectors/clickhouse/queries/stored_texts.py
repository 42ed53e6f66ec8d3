"""Every text that the result tables hold of rows, block by block."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import result_table
from connectors.clickhouse.schema.tables import ANSWERS, AUGMENTED, DEAD_LETTERS, LABELED
from streams.core.settings import Settings

_BLOCK_ROWS = 2_000
_IDS = "ifNull(user_id, ''), ifNull(session_id, ''), ifNull(toString(source_domain), '')"
# SQL: the texts of a row of each table.
_TEXTS = {
    LABELED: f"[text, {_IDS}]",
    AUGMENTED: f"arrayConcat([text, {_IDS}], variants, arrayMap(one -> one.1, rejected))",
    DEAD_LETTERS: "[error, payload]",
    ANSWERS: "[text]",
}


def stream_texts(
    client: ClickHouseClient,
    settings: Settings,
    take: Callable[[str, Sequence[str], Sequence[Sequence[str]]], None],
) -> None:
    """Call ``take`` with a table's name, ids of rows and their texts, in this thread.

    Raises:
        UnavailableError, AccessError.
    """
    for table, texts in _TEXTS.items():

        def block(columns: Sequence[Sequence[str]], table: str = table) -> None:
            take(table, columns[0], columns[1])

        client.stream(
            f"SELECT row_id, arrayMap(one -> toValidUTF8(one), {texts}) FROM {result_table(settings, table)}",
            {},
            block,
            block_rows=_BLOCK_ROWS,
        )
