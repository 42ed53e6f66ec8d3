"""A server or a user that cannot have projections does without; one that is away is waited for."""

from __future__ import annotations

from typing import Any

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError

from connectors.clickhouse.client.errors import translate
from connectors.clickhouse.schema.add_projections import add_projections, create_stored_table
from connectors.clickhouse.schema.tables import LABELED
from streams.core.errors import UnavailableError


class Server:
    """Refuses statements about projections with ``error``, and keeps the others."""

    def __init__(self, error: Exception) -> None:
        self._error = error
        self.done: list[str] = []

    async def command(self, sql: str, parameters: Any = None) -> None:
        if "PROJECTION" in sql or "projection_mode" in sql:
            raise translate(self._error)
        self.done.append(sql)

    async def rows(self, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        return [("CREATE TABLE d.logs_labeled (row_id String) ENGINE = ReplacingMergeTree",)]


def refused(code: int) -> DatabaseError:
    return DatabaseError(f"Code: {code}. DB::Exception: no. (NAME)")


# Unknown setting, bad value, not supported, syntax, no right.
@pytest.mark.parametrize("code", [115, 36, 344, 62, 497])
async def test_it_goes_without(code: int) -> None:
    server = Server(refused(code))
    await create_stored_table(server, "d", LABELED)  # type: ignore[arg-type]
    (made,) = server.done
    assert made.startswith("CREATE TABLE")
    await add_projections(server, "d", [LABELED])  # type: ignore[arg-type]
    assert len(server.done) == 1


@pytest.mark.parametrize("error", [OperationalError("Read timed out"), refused(159), refused(243)])
async def test_a_server_that_is_away_is_not_taken_for_an_old_one(error: Exception) -> None:
    server = Server(error)
    with pytest.raises(UnavailableError):
        await create_stored_table(server, "d", LABELED)  # type: ignore[arg-type]
    with pytest.raises(UnavailableError):
        await add_projections(server, "d", [LABELED])  # type: ignore[arg-type]
    assert server.done == []
