"""What an error of ClickHouse means for us: wait, give a row up, or tell a person."""

from __future__ import annotations

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError

from connectors.clickhouse.client.errors import SERVERS_FAULT, code_of, translate
from streams.core.errors import (
    AccessError,
    ConfigurationError,
    LeaseLostError,
    OverloadedError,
    PermanentError,
    RefusedError,
    UnavailableError,
)


def answered(code: int, text: str = "something") -> DatabaseError:
    """As the driver words a server's error."""
    return DatabaseError(
        f"HTTPDriver for http://h:8123 received ClickHouse error code {code}\n "
        f"Code: {code}. DB::Exception: {text}. (NAME) (version 26.9)"
    )


@pytest.mark.parametrize(
    ("code", "kind", "setting"),
    [
        (516, AccessError, "CLICKHOUSE_PASSWORD"),
        (497, AccessError, "CLICKHOUSE_USERNAME"),
        (60, ConfigurationError, "CLICKHOUSE_TABLE"),
        (81, ConfigurationError, "CLICKHOUSE_DATABASE"),
        (47, ConfigurationError, "CLICKHOUSE_TEXT_COLUMN"),
        # A profile that allows no settings is no fault of any row.
        (164, ConfigurationError, "CLICKHOUSE_USERNAME"),
        (452, ConfigurationError, "CLICKHOUSE_USERNAME"),
        (472, ConfigurationError, "CLICKHOUSE_USERNAME"),
    ],
)
def test_what_a_person_must_change(code: int, kind: type[ConfigurationError], setting: str) -> None:
    error = translate(answered(code))
    assert type(error) is kind
    assert isinstance(error, ConfigurationError)
    assert error.setting == setting
    assert error.fix


@pytest.mark.parametrize("code", [252, 241, 202, 201, 242])
def test_no_room_now(code: int) -> None:
    assert isinstance(translate(answered(code)), OverloadedError)


@pytest.mark.parametrize("code", [53, 117, 469, 321, 395])
def test_the_data_is_refused(code: int) -> None:
    error = translate(answered(code))
    assert isinstance(error, RefusedError)
    assert error.reason == "refused-by-table"


@pytest.mark.parametrize("code", [243, 159, 210, 33, 319, 394, 999, 1000])
def test_the_servers_own_troubles_are_waited_for(code: int) -> None:
    assert isinstance(translate(answered(code)), UnavailableError)
    assert code in SERVERS_FAULT


def test_what_nobody_knows_is_waited_for_but_may_be_the_rows() -> None:
    assert isinstance(translate(answered(676)), UnavailableError)
    assert code_of(answered(676)) == 676
    assert 676 not in SERVERS_FAULT


@pytest.mark.parametrize(
    "error",
    [
        OperationalError(
            "Error HTTPConnectionPool(host='h', port=8123): Read timed out. executing HTTP request"
        ),
        ConnectionRefusedError(111, "Connection refused"),
        TimeoutError(),
        DatabaseError("HTTPDriver for http://h:8123 returned response code 502\n <h1>Error code: 502</h1>"),
    ],
)
def test_no_answer_or_a_proxys(error: Exception) -> None:
    assert isinstance(translate(error), UnavailableError)
    assert code_of(error) is None


def test_a_foreign_ca() -> None:
    error = translate(OperationalError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"))
    assert isinstance(error, AccessError)
    assert error.setting == "CLICKHOUSE_CA_CERT"


def test_ours_pass_and_bugs_are_named() -> None:
    ours = LeaseLostError("over")
    assert translate(ours) is ours
    assert isinstance(translate(KeyError("x")), PermanentError)


def test_one_short_line() -> None:
    text = str(translate(answered(210, "long\n" * 1000)))
    assert "\n" not in text
    assert len(text) < 600


def test_where_rows_are_private_nothing_that_the_server_quotes_is_told() -> None:
    said = "Code: 6. DB::Exception: Cannot parse string 'it's +7 916 123-45-67' as UInt8: 79161234567"
    assert "123-45-67" in str(translate(DatabaseError(said)))
    told = translate(DatabaseError(said), private=True)
    assert (
        str(told)
        == "ClickHouse refuses the data: Code: 6. DB::Exception: Cannot parse string '…' as UInt8: …"
    )
    assert code_of(told) == 6
