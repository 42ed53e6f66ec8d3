"""What a read sends along, by what the user may change."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from connectors.clickhouse.client.reading import Attempt, ReadLimits


class Setting(NamedTuple):
    value: str
    readonly: int = 0


class Driver:
    """The part of clickhouse-connect's client that tells of settings."""

    def __init__(self, own: str | None = None, **settings: Setting) -> None:
        self.server_settings = {"max_execution_time": Setting("0"), "readonly": Setting("0")} | settings
        self._own = own
        self.commands: list[str] = []

    def get_client_setting(self, name: str) -> str | None:
        return self._own if name == "readonly" else None

    def command(self, sql: str) -> None:
        self.commands.append(sql)


def sent(driver: Driver, sql: str = "SELECT 1", answer_seconds: float = 60.0) -> dict[str, Any]:
    given = ReadLimits(answer_seconds).settings(driver, sql, Attempt())
    assert given.pop("query_id")
    return given


@pytest.mark.parametrize("answer_seconds", [1.0, 2.0, 6.0, 25.0, 60.0, 300.0])
def test_the_server_s_limit_is_shorter_than_the_client_s_patience(answer_seconds: float) -> None:
    assert 1 <= sent(Driver(), answer_seconds=answer_seconds)["max_execution_time"] <= max(1, answer_seconds)
    assert sent(Driver(), answer_seconds=60.0) == {"max_execution_time": 55, "readonly": 2}


@pytest.mark.parametrize(
    ("driver", "given"),
    [
        # A profile with readonly=1: every setting is fixed.
        (Driver(max_execution_time=Setting("0", 1), readonly=Setting("1", 1)), {}),
        # With readonly=2 all but that one may be changed.
        (Driver(readonly=Setting("2")), {"max_execution_time": 55}),
        # Somebody's own choice stays.
        (Driver("1"), {"max_execution_time": 55}),
        (Driver(max_execution_time=Setting("7")), {"max_execution_time": 7, "readonly": 2}),
        (Driver(max_execution_time=Setting("600")), {"max_execution_time": 55, "readonly": 2}),
    ],
)
def test_only_what_the_user_may_change(driver: Driver, given: dict[str, Any]) -> None:
    assert sent(driver) == given


def test_skip_indexes_are_left_out_where_the_user_may_say_so() -> None:
    for fixed, given in ((0, {"use_skip_indexes": 0}), (1, {})):
        driver = Driver(readonly=Setting("2"), use_skip_indexes=Setting("1", fixed))
        limits = ReadLimits(60.0)
        assert "use_skip_indexes" not in limits.settings(driver, "SELECT 1", Attempt())
        found = limits.settings(driver, "SELECT 1", Attempt(), skip_indexes=False)
        assert {name: found[name] for name in found if name == "use_skip_indexes"} == given


def test_what_is_no_query_is_not_made_read_only() -> None:
    assert "readonly" not in sent(Driver(), "CHECK GRANT SELECT ON a.b")
    assert sent(Driver(), "\nWITH x AS (SELECT 1) SELECT 1")["readonly"] == 2


@pytest.mark.parametrize("code", [164, 452])
def test_a_profile_that_refuses_a_limit_is_read_without(code: int) -> None:
    limits, seen = ReadLimits(60.0), list[dict[str, Any]]()

    def call(settings: dict[str, Any]) -> str:
        seen.append(settings)
        if len(settings) > 1:
            raise DatabaseError(f"Code: {code}. DB::Exception: it should not be greater than 10")
        return "rows"

    for _ in range(2):
        assert limits.run(Driver(), "SELECT 1", Attempt(), call) == "rows"
    assert [len(one) for one in seen] == [3, 1, 1]


def test_an_error_of_the_query_itself_stays() -> None:
    limits, seen = ReadLimits(60.0), list[dict[str, Any]]()

    def call(settings: dict[str, Any]) -> None:
        seen.append(settings)
        raise DatabaseError("Code: 164. DB::Exception: Cannot modify 'final' setting in readonly mode")

    for _ in range(2):
        with pytest.raises(DatabaseError):
            limits.run(Driver(), "SELECT 1", Attempt(), call)
    # It says nothing of the limits: the next read has them again.
    assert [len(one) for one in seen] == [3, 1, 3, 1]


def test_a_kill_goes_on_until_the_read_has_ended() -> None:
    driver, attempt = Driver(), Attempt()

    class Late(Driver):
        def command(self, sql: str) -> None:
            super().command(sql)
            if len(self.commands) == 2:
                attempt.over.set()
            raise OSError("the server does not answer")

    driver = Late()
    attempt.kill(driver)
    assert driver.commands == [f"KILL QUERY WHERE query_id = '{attempt.query_id}' ASYNC"] * 2
