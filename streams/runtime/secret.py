"""Whether `PRIVACY_SECRET` is the one that rows were published with."""

from __future__ import annotations

from connectors.kafka.connection import connection
from connectors.kafka.producer import send_each
from connectors.kafka.tail import TailReader
from streams.core.availability import until_available
from streams.core.errors import ConfigurationError
from streams.core.settings import Settings
from streams.core.topics import Topics
from streams.privacy.pseudonyms import pseudonyms_of
from streams.privacy.secret_checks import SecretChecks
from streams.runtime.local_stack import with_local_stack


async def verify_secret(settings: Settings, *, note: bool = True) -> None:
    """Compare each generation with its check value. ``note``: note those that are new.

    Raises:
        ConfigurationError: one has another secret than it had.
        UnavailableError, AccessError.
    """
    pseudonyms = pseudonyms_of(settings)
    if pseudonyms is None:
        return
    cursor = Topics(settings.topic_prefix).cursor
    checks = await _read(settings, cursor)
    checks.refuse_other(pseudonyms)
    if not note or not (new := checks.missing(pseudonyms, cursor)):
        return
    await send_each(connection(settings), new)
    # Another process may have begun at the same time with another secret.
    checks = await _read(settings, cursor)
    if again := checks.again(new):
        await send_each(connection(settings), again)
    checks.refuse_other(pseudonyms)


async def secret_ready(settings: Settings) -> None:
    """Wait for Kafka, and verify.

    Raises:
        ConfigurationError: as `verify_secret`.
    """

    if settings.privacy_secret is None:
        return

    async def attempt() -> ConfigurationError | None:
        try:
            await verify_secret(with_local_stack(settings))
        except ConfigurationError as error:
            if error.setting == "PRIVACY_SECRET":
                return error
            raise
        return None

    if (error := await until_available("Kafka (to compare PRIVACY_SECRET)", attempt)) is not None:
        raise error


async def _read(settings: Settings, cursor: str) -> SecretChecks:
    found = SecretChecks()
    async for records in TailReader(connection(settings)).read(cursor, 0, 0):
        for record in records:
            found.learn(record)
    return found
