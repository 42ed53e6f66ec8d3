"""Connections to ClickHouse that are not trusted are not made."""

from __future__ import annotations

import http.client
import ssl

import pytest

from connectors.clickhouse.client.client import ClickHouseClient
from streams.core.errors import AccessError, ConfigurationError, UnavailableError
from tests.security.parts import SECRET, USER, Certificates, chain_of, settings
from tests.waiting import PATIENCE


def given(port: int, certificates: Certificates, **changes: object) -> dict[str, object]:
    values: dict[str, object] = {
        "clickhouse_host": "127.0.0.1",
        "clickhouse_port": port,
        "clickhouse_username": USER,
        "clickhouse_password": SECRET,
        "clickhouse_secure": "true",
        "clickhouse_ca_cert": certificates.ca,
    }
    return {name: value for name, value in (values | changes).items() if value is not None}


async def ask(**values: object) -> object:
    client = ClickHouseClient.from_settings(settings(**values))
    try:
        return await client.command("SELECT 1")
    finally:
        await client.close()


async def refused(**values: object) -> AccessError:
    with pytest.raises(AccessError) as caught:
        await ask(**values)
    assert SECRET not in chain_of(caught.value)
    assert caught.value.fix
    return caught.value


async def test_the_right_authority_and_password_come_in(clickhouse: int, certificates: Certificates) -> None:
    values = given(clickhouse, certificates)
    assert await ask(**values) == 1
    client = ClickHouseClient.from_settings(settings(**values))
    await client.command("CREATE TABLE IF NOT EXISTS t (id UInt8, s String) ENGINE = MergeTree ORDER BY id")
    await client.insert("t", ["id", "s"], [[1], ["тайна"]], database="default")
    assert await client.rows("SELECT * FROM t") == [(1, "тайна")]
    await client.close()


async def test_a_wrong_authority_is_refused(clickhouse: int, certificates: Certificates) -> None:
    error = await refused(**given(clickhouse, certificates, clickhouse_ca_cert=certificates.other_ca))
    assert error.setting == "CLICKHOUSE_CA_CERT"


async def test_without_the_authority_it_is_refused(clickhouse: int, certificates: Certificates) -> None:
    error = await refused(**given(clickhouse, certificates, clickhouse_ca_cert=None))
    assert error.setting == "CLICKHOUSE_CA_CERT"


async def test_a_wrong_host_name_is_refused(clickhouse: int, certificates: Certificates) -> None:
    error = await refused(**given(clickhouse, certificates, clickhouse_host="localhost"))
    assert error.setting == "CLICKHOUSE_HOST"
    assert "localhost" in str(error)


@pytest.mark.parametrize(
    "changes",
    [{"clickhouse_password": SECRET + "x"}, {"clickhouse_password": None}, {"clickhouse_username": "x"}],
)
async def test_a_wrong_user_or_password_is_refused(
    clickhouse: int, certificates: Certificates, changes: dict[str, object]
) -> None:
    error = await refused(**given(clickhouse, certificates, **changes))
    assert error.setting == "CLICKHOUSE_PASSWORD"


async def test_in_the_clear_nothing_is_asked_of_a_port_that_speaks_tls(
    clickhouse: int, certificates: Certificates
) -> None:
    values = given(clickhouse, certificates, clickhouse_secure="false", clickhouse_ca_cert=None)
    with pytest.raises(UnavailableError) as caught:
        await ask(**values)
    assert SECRET not in chain_of(caught.value)


async def test_a_file_that_is_no_authority_is_refused(clickhouse: int, certificates: Certificates) -> None:
    with pytest.raises(ConfigurationError) as caught:
        await ask(**given(clickhouse, certificates, clickhouse_ca_cert=certificates.server_key))
    assert caught.value.setting == "CLICKHOUSE_CA_CERT"


def test_a_missing_file_is_refused_by_the_settings() -> None:
    with pytest.raises(ConfigurationError, match=r"CLICKHOUSE_CA_CERT.*nowhere"):
        settings(clickhouse_ca_cert="/nowhere.pem")


def test_the_front_itself_tells_no_password(clickhouse: int, certificates: Certificates) -> None:
    context = ssl.create_default_context(cafile=str(certificates.ca))
    connection = http.client.HTTPSConnection("127.0.0.1", clickhouse, context=context, timeout=PATIENCE)
    connection.request("GET", f"/?query=SELECT+1&user={USER}&password=wrong-{SECRET}")
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    assert answer.status == 403
    assert SECRET not in text
