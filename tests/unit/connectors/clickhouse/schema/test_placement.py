"""The statements for a cluster and for a Replicated database, beside those for one server."""

from __future__ import annotations

import re

from connectors.clickhouse.schema.database import describe_ddl, statements
from connectors.clickhouse.schema.placement import IN_REPLICATED_DATABASE, PLAIN, on_cluster
from streams.core.settings import Settings

_ENGINE = re.compile(r"ENGINE = (\w+(?:\(.*?\))?)\n")


def engines(made: list[str]) -> list[str]:
    return [found[1] for one in made if (found := _ENGINE.search(one))]


def test_every_statement_names_the_cluster_and_every_table_its_own_path() -> None:
    made = statements("res", on_cluster("main"))
    assert all(" ON CLUSTER 'main'" in one.split("\n")[0].split(" AS")[0] for one in made)
    paths = re.findall(r"Replicated\w+\('(\S+)', '\{shard\}-\{replica\}'", "\n".join(made))
    assert len(paths) == len(set(paths)) == len(engines(made))
    # One for all hosts, whichever shard they are of: each of them has every row.
    assert "/clickhouse/tables/main/res/logs_labeled" in paths
    assert any(one.endswith("/main/res/erasures', '{shard}-{replica}', at)") for one in engines(made))


def test_a_replicated_database_gives_the_paths_itself() -> None:
    made = statements("res", IN_REPLICATED_DATABASE)
    assert "CLUSTER" not in "\n".join(made)
    assert set(engines(made)) == {
        "ReplicatedReplacingMergeTree",
        "ReplicatedReplacingMergeTree(at)",
        "ReplicatedMergeTree",
    }


def test_but_for_that_they_are_the_statements_of_one_server() -> None:
    cluster = "\n".join(statements("res", on_cluster("main"))).replace(" ON CLUSTER 'main'", "")
    cluster = re.sub(r"Replicated(\w+)\('\S+', '\S+'(?:, (at))?\)", r"\1(\2)", cluster)
    assert cluster.replace("()", "") == "\n".join(statements("res", PLAIN)).replace("()", "")


def test_the_statements_for_people_are_those_of_the_cluster() -> None:
    told = describe_ddl(Settings(clickhouse_cluster="main"))
    assert "CREATE DATABASE IF NOT EXISTS `esk` ON CLUSTER 'main'" in told
