"""Running statements by the clients' ids, and how they are killed.

The engine gives each statement an id of its own and keeps the client's id as its comment. Here
``system.processes`` and ``KILL QUERY`` show and accept the client's id. The engine does not know an insert
that still waits for data: the front lists and ends those.
"""

import re
import time
from typing import Any

import orjson

from connectors.local.clickhouse.engine import Connection, literal
from connectors.local.clickhouse.errors import EngineError
from connectors.local.clickhouse.inserts import Inserts
from connectors.local.clickhouse.statement import Query, Token, tokens_of

_KILL_QUERY = re.compile(r"\s*KILL\s+QUERY\s+WHERE\b(?P<condition>.*)", re.IGNORECASE | re.DOTALL)
_MODE = re.compile(r"\b(SYNC|ASYNC|TEST)\s*$", re.IGNORECASE)
_SYNC_SECONDS = 60.0
_LOOK_AGAIN = 0.05


def with_processes(sql: str, inserts: Inserts) -> str:
    """``sql`` with ``system.processes`` as clients should see it."""
    if "processes" not in sql:
        return sql
    tokens: list[Token] = list(tokens_of(sql))
    out, copied = [], 0
    for before, schema, dot, table in zip(tokens, tokens[1:], tokens[2:], tokens[3:], strict=False):
        names = (schema.text.strip('`"'), dot.text, table.text.strip('`"'))
        if names == ("system", ".", "processes") and before.text.upper() in ("FROM", "JOIN", ","):
            out += [sql[copied : schema.start], inserts.processes()]
            copied = table.end
    return "".join([*out, sql[copied:]])


def kill_queries(
    connection: Connection,
    query: Query,
    own_id: str,
    params: dict[str, str],
    output_format: str,
    inserts: Inserts,
) -> Any:
    """``KILL QUERY WHERE ... [SYNC|ASYNC|TEST]``: of what the condition matches, except the statement itself.

    Returns the engine's result with ClickHouse's columns: kill_status, query_id, user, query.
    """
    found = _KILL_QUERY.match(query.core)
    if found is None:
        raise EngineError(62, "Syntax error: KILL QUERY needs WHERE", "SYNTAX_ERROR")
    condition = found.group("condition")
    mode = _MODE.search(condition)
    how = mode.group(1).upper() if mode else "ASYNC"
    condition = condition[: mode.start()] if mode else condition
    listing = (
        f"SELECT query_id, user, query FROM {inserts.processes()} "
        f"WHERE (\n{condition}\n) AND query_id != {literal(own_id)}"
    )
    rows: list[list[str]] = orjson.loads(connection.query(listing, "JSONCompact", params).bytes())["data"]
    status = "unknown_status"
    if how != "TEST":
        ids = [row[0] for row in rows]
        if ids:
            wanted = ", ".join(literal(query_id) for query_id in ids)
            inserts.kill(ids)  # first: none of them may enter the engine after it was killed
            connection.query(f"KILL QUERY WHERE Settings['log_comment'] IN ({wanted}) ASYNC")
        status = "finished" if how == "SYNC" and _have_ended(connection, ids, inserts) else "waiting"
    # Not VALUES with no rows: that does not parse.
    columns = ", ".join(
        f"[{', '.join(literal(row[number]) for row in rows)}]::Array(String) AS c{number}"
        for number in range(3)
    )
    return connection.query(
        f"SELECT {literal(status)} AS kill_status, query_id, user, query FROM "
        f"(SELECT {columns}) ARRAY JOIN c0 AS query_id, c1 AS user, c2 AS query",
        output_format,
    )


def _have_ended(connection: Connection, ids: list[str], inserts: Inserts) -> bool:
    wanted = ", ".join(literal(query_id) for query_id in ids)
    deadline = time.monotonic() + _SYNC_SECONDS
    while ids:
        left = connection.query(f"SELECT count() FROM {inserts.processes()} WHERE query_id IN ({wanted})")
        if left.bytes().strip() == b"0":
            break
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_AGAIN)
    return True
