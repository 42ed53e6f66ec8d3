"""What is done next with a table that gets a new sorting key, whatever was cut off before."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.clickhouse.schema.place_in_key import PlaceInKey, Step, next_step
from connectors.clickhouse.schema.tables import new_engine
from streams.core.errors import ConfigurationError

PLACE = "_topic_id, _partition, _offset"


@pytest.mark.parametrize(
    ("engine", "key", "made"),
    [
        (
            "ReplacingMergeTree ORDER BY (created_at, row_id) SETTINGS index_granularity = 8192",
            "created_at, row_id",
            f"ReplacingMergeTree PRIMARY KEY (created_at, row_id) ORDER BY (created_at, row_id, {PLACE}) "
            "SETTINGS index_granularity = 8192",
        ),
        (
            "ReplacingMergeTree PARTITION BY toYYYYMM(created_at) ORDER BY created_at TTL created_at + "
            "toIntervalYear(1) SETTINGS storage_policy = 'cold'",
            "created_at",
            "ReplacingMergeTree PARTITION BY toYYYYMM(created_at) PRIMARY KEY (created_at) "
            f"ORDER BY (created_at, {PLACE}) TTL created_at + toIntervalYear(1) "
            "SETTINGS storage_policy = 'cold'",
        ),
        (
            "ReplicatedReplacingMergeTree('/t/{uuid}/{shard}', '{replica}') PRIMARY KEY created_at "
            "ORDER BY (created_at, _offset)",
            "created_at, _offset",
            "ReplicatedReplacingMergeTree('/t/{uuid}/{shard}', '{replica}') PRIMARY KEY created_at "
            "ORDER BY (created_at, _offset, _topic_id, _partition)",
        ),
        (
            "ReplicatedReplacingMergeTree('/clickhouse/tables/{uuid}/{shard}', '{replica}') "
            "ORDER BY created_at",
            "created_at",
            f"ReplicatedReplacingMergeTree PRIMARY KEY (created_at) ORDER BY (created_at, {PLACE})",
        ),
    ],
)
def test_what_somebody_gave_the_table_stays(engine: str, key: str, made: str) -> None:
    assert new_engine(engine, key) == made


def test_a_replicated_table_gets_a_path_of_its_own() -> None:
    theirs = "ReplicatedReplacingMergeTree('/t/{shard}/logs', '{replica}') ORDER BY created_at"
    assert new_engine(theirs, "created_at", "/t/1/logs__2") == (
        "ReplicatedReplacingMergeTree('/t/1/logs__2', '{replica}') PRIMARY KEY (created_at) "
        f"ORDER BY (created_at, {PLACE})"
    )
    with pytest.raises(ConfigurationError, match="cannot be read"):
        new_engine("ReplicatedReplacingMergeTree ORDER BY created_at", "created_at", "/t/1/logs__2")


def test_an_engine_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="Distributed"):
        new_engine("Distributed('c', 'd', 't')", "created_at")


def test_the_statements_are_those_of_the_steps() -> None:
    made = PlaceInKey(2, "logs_labeled").statements("esk")
    assert [statement.split(maxsplit=1)[0] for statement in made] == [
        "CREATE", "INSERT", "EXCHANGE", "RENAME", "INSERT", "DROP"
    ]  # fmt: skip
    assert f"ORDER BY (created_at, row_id, label_version, {PLACE})" in made[0]


# --- kills and rivals ---

_TABLES = st.sampled_from([None, False, True])


@given(table=_TABLES, following=_TABLES, former=_TABLES)
def test_every_state_ends_with_one_table_and_all_that_was_stored(
    table: bool | None, following: bool | None, former: bool | None
) -> None:
    """Also what late statements of rivals may leave: nothing that only one table holds is dropped."""
    world = _World({"table": table, "following": following, "former": former})
    stored = world.stored
    for _ in range(12):
        if not world.step():
            break
    else:
        raise AssertionError("it never ends")
    assert set(world.tables) == ({"table"} if stored else set())
    assert world.stored == stored
    assert all(table.ready for table in world.tables.values())


class _Table:
    def __init__(self, ready: bool, rows: set[str]) -> None:
        self.ready = ready
        self.rows = rows


class _World:
    """The three tables; each that is there holds a row that no other one has."""

    def __init__(self, ready: dict[str, bool | None]) -> None:
        self.tables = {name: _Table(key, {name}) for name, key in ready.items() if key is not None}

    @property
    def stored(self) -> set[str]:
        return set().union(*(table.rows for table in self.tables.values()))

    def step(self) -> bool:
        """Do what is next; False if there is nothing."""
        found = [
            self.tables[name].ready if name in self.tables else None
            for name in ("table", "following", "former")
        ]
        match next_step(*found):
            case Step.NOTHING:
                return False
            case Step.CREATE:
                assert "following" not in self.tables
                self.tables["following"] = _Table(True, set())
            case Step.EXCHANGE:
                self.tables["following"].rows |= self.tables["table"].rows
                self.tables["table"], self.tables["following"] = (
                    self.tables["following"],
                    self.tables["table"],
                )
            case Step.RETIRE:
                self._rename("following", "former")
            case Step.RECALL:
                self._rename("former", "following")
            case Step.ADOPT:
                self._rename("following", "table")
            case Step.RESTORE:
                self._rename("former", "table")
            case Step.FINISH:
                self.tables["table"].rows |= self.tables.pop("former").rows
        return True

    def _rename(self, name: str, other: str) -> None:
        assert other not in self.tables, "a table of that name exists"
        self.tables[other] = self.tables.pop(name)
