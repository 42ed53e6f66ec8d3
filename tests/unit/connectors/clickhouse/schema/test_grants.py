"""Rights that are missing are found before anything is done."""

from __future__ import annotations

from typing import Any, cast

import pytest

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.schema.grants import refuse_missing_rights, refuse_missing_rights_of
from streams.core.errors import AccessError, ConfigurationError
from streams.core.settings import Settings


class Client:
    """Whoever asks may read and write, and not delete."""

    async def rows(self, sql: str, parameters: Any = None) -> list[tuple[int]]:
        return [(int("ALTER DELETE" not in sql),)]


async def test_the_right_and_the_table_are_named() -> None:
    client, settings = cast(ClickHouseClient, Client()), Settings(clickhouse_result_database="esk")
    await refuse_missing_rights(client, settings)
    with pytest.raises(AccessError, match="may not SELECT, ALTER DELETE on esk") as refused:
        await refuse_missing_rights(client, settings, "SELECT, ALTER DELETE", ["answers"])
    assert refused.value.fix == "GRANT SELECT, ALTER DELETE ON esk.* TO the user"


@pytest.mark.parametrize(
    ("role", "asked"),
    [
        (
            "agents",
            {
                "SELECT, INSERT ON `esk`.`label_versions`",
                "SELECT ON `esk`.`logs_labeled`",
                "SELECT ON `esk`.`review_answers`",
                "SELECT ON `esk`.`erasures`",
            },
        ),
        (
            "sink",
            {
                "SELECT, INSERT ON `esk`.`logs_labeled`",
                "SELECT, INSERT ON `esk`.`logs_augmented`",
                "SELECT, INSERT ON `esk`.`dead_letters`",
                "SELECT ON `esk`.`erasures`",
            },
        ),
    ],
)
async def test_a_role_is_asked_for_no_more_than_it_needs(role: str, asked: set[str]) -> None:
    class Only:
        async def rows(self, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
            if "system.tables" in sql:
                return [(name, "ReplacingMergeTree") for name in parameters["names"]]
            said.add(sql.removeprefix("CHECK GRANT "))
            return [(int(sql.removeprefix("CHECK GRANT ") in asked),)]

    said, settings = set[str](), Settings(clickhouse_result_database="esk")
    await refuse_missing_rights_of(cast(ClickHouseClient, Only()), settings, role)
    assert said == asked
    with pytest.raises(AccessError):
        await refuse_missing_rights_of(cast(ClickHouseClient, Only()), settings, "api")


@pytest.mark.parametrize(
    ("engines", "why"),
    [
        ({}, ""),
        ({"erasures": "ReplicatedMergeTree"}, "may not SYSTEM SYNC REPLICA on esk.erasures"),
        ({"erasures": ""}, "missing in esk: erasures$"),
    ],
)
async def test_a_role_is_told_of_a_missing_table_and_that_it_cannot_wait_for_replicas(
    engines: dict[str, str], why: str
) -> None:
    class Server:
        async def rows(self, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
            if "system.tables" not in sql:
                return [(int("SYNC" not in sql),)]
            found = dict.fromkeys(parameters["names"], "MergeTree") | engines
            return [(name, engine) for name, engine in found.items() if engine]

    asked = refuse_missing_rights_of(
        cast(ClickHouseClient, Server()), Settings(clickhouse_result_database="esk"), "agents"
    )
    if not why:
        await asked
        return
    with pytest.raises(ConfigurationError, match=why):
        await asked
