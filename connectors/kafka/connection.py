"""How to reach Kafka: the arguments that every aiokafka client gets, made from the settings."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from aiokafka.client import AIOKafkaClient

from connectors.kafka.errors import SETTING, translate
from streams.errors import ConfigurationError
from streams.settings import Settings

# One session for all groups: a dead member's partitions move on after it.
SESSION_SECONDS = 6.0
HEARTBEAT_SECONDS = 1.0
# A group member that waits for a model or a database is not dead; the heartbeat says who is.
POLL_INTERVAL_MS = 7 * 24 * 3600 * 1000
# Largest message; the brokers' default for a topic.
MESSAGE_BYTES = 1_000_000


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


def _ssl_context(settings: Settings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(
            cafile=str(settings.kafka_ssl_cafile) if settings.kafka_ssl_cafile else None
        )
        if settings.kafka_ssl_certfile:
            password = settings.kafka_ssl_key_password
            context.load_cert_chain(
                str(settings.kafka_ssl_certfile),
                str(settings.kafka_ssl_keyfile) if settings.kafka_ssl_keyfile else None,
                password.get_secret_value() if password else None,
            )
    except (ssl.SSLError, OSError) as error:
        raise ConfigurationError(
            f"the certificates for Kafka cannot be used: {error}",
            setting="KAFKA_SSL_CAFILE",
            fix="give PEM files; KAFKA_SSL_CERTFILE and KAFKA_SSL_KEYFILE must belong together",
        ) from error
    return context


async def reach(settings: Settings, *, seconds: float = 10.0) -> int:
    """Connect once and return the number of brokers.

    Raises:
        UnavailableError: nobody answers in time.
        AccessError: the brokers refuse certificate, user or password.
    """
    client = AIOKafkaClient(**connection(settings), request_timeout_ms=int(seconds * 1000))
    try:
        async with asyncio.timeout(seconds):
            await client.bootstrap()
            return len(client.cluster.brokers())
    except Exception as error:
        raise translate(error.__cause__ or error) from error
    finally:
        await client.close()
