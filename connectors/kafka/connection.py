"""How to connect to Kafka: the arguments of every aiokafka client, made from the settings."""

from __future__ import annotations

import asyncio
import socket
import ssl
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection, collect_hosts
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaConnectionError, KafkaError, NodeNotReadyError
from aiokafka.protocol.metadata import MetadataRequest

from connectors.kafka.errors import SETTING, translate
from streams.core.errors import ConfigurationError, LabelstreamError, UnavailableError
from streams.core.settings import Settings

T = TypeVar("T")

# One session time-out for all groups: after it a dead member's partitions are reassigned.
SESSION_SECONDS = 6.0
HEARTBEAT_SECONDS = 1.0
# A member that waits for a model or a database is alive, as its heartbeats show.
POLL_INTERVAL_MS = 7 * 24 * 3600 * 1000
# TLS sends a closing message first.
_CLOSE_SECONDS = 1.0


def connection(settings: Settings) -> dict[str, Any]:
    """Keyword arguments for aiokafka's clients.

    Raises:
        ConfigurationError: no servers, or certificate files that cannot be read.
    """
    if not settings.kafka_bootstrap_servers:
        raise ConfigurationError(
            "KAFKA_BOOTSTRAP_SERVERS is not set and the local stack does not run",
            setting=SETTING,
            fix="set it to host:port of your brokers, or start the local stack: labelstream local up",
        )
    arguments: dict[str, Any] = {
        "bootstrap_servers": settings.kafka_bootstrap_servers,
        "security_protocol": settings.kafka_security_protocol,
    }
    if settings.kafka_security_protocol.endswith("SSL"):
        arguments["ssl_context"] = _ssl_context(settings)
    if settings.kafka_security_protocol.startswith("SASL") and settings.kafka_sasl_password:
        arguments["sasl_mechanism"] = settings.kafka_sasl_mechanism
        arguments["sasl_plain_username"] = settings.kafka_sasl_username
        arguments["sasl_plain_password"] = settings.kafka_sasl_password.get_secret_value()
    return arguments


def member_arguments(group: str) -> dict[str, Any]:
    """Keyword arguments of a consumer that is a member of ``group``, besides those of `connection`.

    Range assignment gives partition n of every topic to the same member.
    """
    return {
        "group_id": group,
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "isolation_level": "read_uncommitted",
        "partition_assignment_strategy": (RangePartitionAssignor,),
        "session_timeout_ms": int(SESSION_SECONDS * 1000),
        "heartbeat_interval_ms": int(HEARTBEAT_SECONDS * 1000),
        "max_poll_interval_ms": POLL_INTERVAL_MS,
        "rebalance_timeout_ms": 30_000,
        "fetch_max_wait_ms": 200,
        "retry_backoff_ms": 100,
        "metadata_max_age_ms": 30_000,
    }


def ungrouped_consumer(connection: dict[str, Any], **more: Any) -> AIOKafkaConsumer:
    """A consumer without a group, not started, which begins at a partition's beginning. It reads aborted
    transactions too, like subscribers with default settings.
    """
    arguments = {"auto_offset_reset": "earliest", "isolation_level": "read_uncommitted"} | more
    return AIOKafkaConsumer(**connection, group_id=None, enable_auto_commit=False, **arguments)


async def start_client(client: Any, stop: Callable[[], Awaitable[object]]) -> None:
    """Start one of aiokafka's clients. One whose start fails or is cancelled is ended by ``stop``, and leaves
    no connection. Raises what its start raises.
    """
    try:
        await client.start()
    except BaseException as error:
        await _close_first_connection(error)
        await stop()
        raise


async def _close_first_connection(error: BaseException) -> None:
    """aiokafka has the connection to a bootstrap server in a local variable, and drops it when it is
    cancelled there; at some later time it would be closed with a complaint on stderr.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        first = frame.f_locals.get("bootstrap_conn")
        if isinstance(first, AIOKafkaConnection) and first.connected():
            await asyncio.wait([first.close()], timeout=_CLOSE_SECONDS)


async def send_to_any_broker(client: AIOKafkaClient, request: Any) -> Any:
    """The answer to a request that any broker can answer, as `from_any_broker`."""
    return await from_any_broker(client, lambda: client.send(client.get_random_node(), request))


async def from_any_broker(client: AIOKafkaClient, ask: Callable[[], Awaitable[T]]) -> T:
    """The answer to a question that any broker can answer.

    aiokafka asks one that it picks by chance, and one that has just ended is among them for a while. Raises
    what ``ask`` raises, a lost connection only when several brokers have been tried.
    """
    left = 2 * len(client.cluster.brokers())
    while True:
        try:
            return await ask()
        except (NodeNotReadyError, KafkaConnectionError):
            left -= 1
            if left <= 0:
                raise


def _ssl_context(settings: Settings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(
            cafile=str(settings.kafka_ssl_cafile) if settings.kafka_ssl_cafile else None
        )
    except (ssl.SSLError, OSError) as error:
        raise ConfigurationError(
            f"the file of the authority for Kafka cannot be used: {error}",
            setting="KAFKA_SSL_CAFILE",
            fix="give a PEM file with the certificate of the CA",
        ) from error
    if settings.kafka_ssl_certfile:
        password = settings.kafka_ssl_key_password
        try:
            context.load_cert_chain(
                str(settings.kafka_ssl_certfile),
                str(settings.kafka_ssl_keyfile) if settings.kafka_ssl_keyfile else None,
                # Never None: OpenSSL would ask for it on the terminal.
                password.get_secret_value() if password else "",
            )
        except (ssl.SSLError, OSError) as error:
            raise ConfigurationError(
                f"the client certificate for Kafka cannot be used: {error}",
                setting="KAFKA_SSL_CERTFILE",
                fix="KAFKA_SSL_CERTFILE and KAFKA_SSL_KEYFILE must be PEM files that belong together, "
                "KAFKA_SSL_KEY_PASSWORD the key's password if it has one",
            ) from error
    return context


async def reach(settings: Settings, *, seconds: float = 10.0) -> int:
    """Connect once, with at most ``seconds`` for each server, and return the number of brokers.

    Raises:
        UnavailableError: no broker answers in time.
        AccessError: the brokers refuse certificate, user or password.
    """
    arguments = connection(settings)
    failures: list[LabelstreamError] = []
    for host, port, _ in collect_hosts(arguments.pop("bootstrap_servers")):
        try:
            async with asyncio.timeout(seconds):
                return await _count_brokers(host, port, arguments)
        except Exception as error:
            failures.append(_explained(error, f"{host}:{port}", settings))
    # A broker that refuses us says more than another one that is down.
    refused = (failure for failure in failures if isinstance(failure, ConfigurationError))
    raise next(refused, failures[0])


async def _count_brokers(host: str, port: int, arguments: dict[str, Any]) -> int:
    # Without aiokafka's client, which logs the reason of a failure and raises an error without it.
    tried = AIOKafkaConnection(host, port, client_id="labelstream", **arguments)
    try:
        await tried.connect()
    except KafkaError:  # an OSError is raised before there is anything to close
        await asyncio.wait([tried.close()], timeout=_CLOSE_SECONDS)
        raise
    try:
        metadata = await tried.send(MetadataRequest([]))
        return len(metadata.brokers)
    finally:
        await asyncio.wait([tried.close()], timeout=_CLOSE_SECONDS)


def _explained(error: Exception, address: str, settings: Settings) -> LabelstreamError:
    failure = translate(error.__cause__ if isinstance(error.__cause__, ssl.SSLError) else error)
    if not isinstance(failure, UnavailableError):
        return failure
    hint = ""
    if not isinstance(error, (ConnectionRefusedError, socket.gaierror)):
        # A server closes the connection, or says nothing: usually it speaks another protocol.
        hint = f"; does it speak KAFKA_SECURITY_PROTOCOL {settings.kafka_security_protocol}?"
    return UnavailableError(f"{failure} ({address}){hint}", setting=SETTING)
