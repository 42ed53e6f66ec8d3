"""Connections to Kafka that are not trusted are not made: TLS and SCRAM against the real broker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from connectors.kafka.connection import connection, reach
from streams.core.errors import AccessError, ConfigurationError, LabelstreamError, UnavailableError
from tests.kafka_tools import make_topic
from tests.security.parts import SECRET, USER, Certificates, chain_of, kafka, settings
from tests.waiting import PATIENCE


@pytest.fixture(scope="module")
def sasl_ssl(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[int]:
    with kafka(tmp_path_factory.mktemp("sasl-ssl"), "SASL_SSL", certificates) as broker:
        yield broker.port


def given(port: int, certificates: Certificates, **changes: object) -> dict[str, object]:
    values: dict[str, object] = {
        "kafka_bootstrap_servers": f"127.0.0.1:{port}",
        "kafka_security_protocol": "SASL_SSL",
        "kafka_sasl_username": USER,
        "kafka_sasl_password": SECRET,
        "kafka_ssl_cafile": certificates.ca,
    }
    return {name: value for name, value in (values | changes).items() if value is not None}


async def refused(**values: object) -> AccessError:
    with pytest.raises(AccessError) as caught:
        await reach(settings(**values), seconds=PATIENCE)
    assert SECRET not in chain_of(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.fix
    return caught.value


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_the_right_authority_and_password_come_in(
    sasl_ssl: int, certificates: Certificates, mechanism: str
) -> None:
    values = given(sasl_ssl, certificates, kafka_sasl_mechanism=mechanism)
    assert await reach(settings(**values), seconds=PATIENCE) == 1


async def test_messages_go_through(sasl_ssl: int, certificates: Certificates) -> None:
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

    arguments: dict[str, Any] = connection(settings(**given(sasl_ssl, certificates)))
    await make_topic(arguments, "secured")
    async with (
        AIOKafkaProducer(**arguments, enable_idempotence=True) as producer,
        AIOKafkaConsumer("secured", **arguments, group_id="g", auto_offset_reset="earliest") as consumer,
    ):
        await producer.send_and_wait("secured", "сообщение".encode())
        assert (await consumer.getone()).value.decode() == "сообщение"


async def test_a_wrong_authority_is_refused(sasl_ssl: int, certificates: Certificates) -> None:
    error = await refused(**given(sasl_ssl, certificates, kafka_ssl_cafile=certificates.other_ca))
    assert error.setting == "KAFKA_SSL_CAFILE"


async def test_without_the_authority_it_is_refused(sasl_ssl: int, certificates: Certificates) -> None:
    error = await refused(**given(sasl_ssl, certificates, kafka_ssl_cafile=None))
    assert error.setting == "KAFKA_SSL_CAFILE"


async def test_a_wrong_host_name_is_refused(sasl_ssl: int, certificates: Certificates) -> None:
    error = await refused(**given(sasl_ssl, certificates, kafka_bootstrap_servers=f"localhost:{sasl_ssl}"))
    assert error.setting == "KAFKA_BOOTSTRAP_SERVERS"
    assert "localhost" in str(error)


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_a_wrong_password_is_refused(sasl_ssl: int, certificates: Certificates, mechanism: str) -> None:
    wrong = given(sasl_ssl, certificates, kafka_sasl_password=SECRET + "x", kafka_sasl_mechanism=mechanism)
    assert (await refused(**wrong)).setting == "KAFKA_SASL_PASSWORD"


async def test_an_unknown_user_is_refused(sasl_ssl: int, certificates: Certificates) -> None:
    error = await refused(**given(sasl_ssl, certificates, kafka_sasl_username="nobody"))
    assert error.setting == "KAFKA_SASL_PASSWORD"
    assert "KAFKA_SASL_USERNAME" in error.fix


async def test_a_mechanism_that_the_broker_has_not_is_refused(
    sasl_ssl: int, certificates: Certificates
) -> None:
    error = await refused(**given(sasl_ssl, certificates, kafka_sasl_mechanism="PLAIN"))
    assert error.setting == "KAFKA_SASL_MECHANISM"


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SASL_PLAINTEXT"])
async def test_in_the_clear_nothing_is_reached_and_the_protocol_is_named(
    sasl_ssl: int, certificates: Certificates, protocol: str
) -> None:
    with pytest.raises(UnavailableError) as caught:
        await reach(settings(**given(sasl_ssl, certificates, kafka_security_protocol=protocol)), seconds=15)
    assert "KAFKA_SECURITY_PROTOCOL" in str(caught.value)


async def test_the_password_is_checked_without_tls_too(
    tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> None:
    with kafka(tmp_path_factory.mktemp("sasl"), "SASL_PLAINTEXT", certificates) as broker:
        right = given(
            broker.port, certificates, kafka_security_protocol="SASL_PLAINTEXT", kafka_ssl_cafile=None
        )
        assert await reach(settings(**right), seconds=PATIENCE) == 1
        error = await refused(**(right | {"kafka_sasl_password": "wrong"}))
        assert error.setting == "KAFKA_SASL_PASSWORD"


async def test_a_broker_may_ask_for_a_client_certificate(
    tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> None:
    with kafka(tmp_path_factory.mktemp("ssl"), "SSL", certificates, ask=True) as broker:
        without = {
            "kafka_bootstrap_servers": f"127.0.0.1:{broker.port}",
            "kafka_security_protocol": "SSL",
            "kafka_ssl_cafile": certificates.ca,
        }
        own = {"kafka_ssl_certfile": certificates.client, "kafka_ssl_keyfile": certificates.client_key}
        assert await reach(settings(**without, **own), seconds=PATIENCE) == 1
        error = await refused(**without)
        assert error.setting == "KAFKA_SSL_CERTFILE"


@pytest.mark.parametrize(
    ("changes", "setting"),
    [
        ({"kafka_ssl_cafile": "server_key"}, "KAFKA_SSL_CAFILE"),
        ({"kafka_ssl_certfile": "client", "kafka_ssl_keyfile": "server_key"}, "KAFKA_SSL_CERTFILE"),
    ],
)
def test_files_that_do_not_fit_are_refused_before_anything_is_sent(
    certificates: Certificates, changes: dict[str, str], setting: str
) -> None:
    files = {name: getattr(certificates, which) for name, which in changes.items()}
    with pytest.raises(ConfigurationError) as caught:
        connection(settings(**given(9, certificates, **files)))
    assert caught.value.setting == setting


def test_a_locked_key_needs_its_password(certificates: Certificates) -> None:
    own = {"kafka_ssl_certfile": certificates.client, "kafka_ssl_keyfile": certificates.locked_key}
    assert connection(settings(**given(9, certificates, **own, kafka_ssl_key_password=SECRET)))["ssl_context"]
    for password in (None, "wrong"):
        with pytest.raises(ConfigurationError, match="client certificate") as caught:
            connection(settings(**given(9, certificates, **own, kafka_ssl_key_password=password)))
        assert "KAFKA_SSL_KEY_PASSWORD" in caught.value.fix


def test_a_missing_file_or_password_is_refused_with_the_settings() -> None:
    with pytest.raises(LabelstreamError, match="KAFKA_SSL_CAFILE"):
        settings(
            kafka_bootstrap_servers="x:1", kafka_security_protocol="SSL", kafka_ssl_cafile="/nowhere.pem"
        )
    with pytest.raises(LabelstreamError, match="KAFKA_SASL_PASSWORD") as caught:
        settings(
            kafka_bootstrap_servers="x:1", kafka_security_protocol="SASL_SSL", kafka_sasl_username=SECRET
        )
    assert SECRET not in str(caught.value)


def test_settings_show_no_secret(certificates: Certificates) -> None:
    shown = settings(**given(1, certificates, clickhouse_password=SECRET, llm_labeler_api_key=SECRET))
    assert SECRET not in f"{shown} {shown!r} {shown.model_dump()} {shown.model_dump_json()}"
