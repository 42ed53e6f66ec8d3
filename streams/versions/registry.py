"""Registers a version on the versions topic, and reads the known ones."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import structlog

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.queries.label_versions import PROMOTED, TRIAL, register_version
from connectors.kafka.connection import connection
from connectors.kafka.follow import Follower
from connectors.kafka.tail import TailReader
from streams.core.errors import LabelstreamError
from streams.core.label_version import LabelSpec
from streams.core.settings import Settings
from streams.core.topics import Topics
from streams.quality.gate import has_gold
from streams.quality.scales import Scales
from streams.versions.topic import KnownVersions

log = structlog.get_logger()

_AGAIN_SECONDS = 5.0


async def read_versions(settings: Settings) -> KnownVersions:
    """The content of the versions topic.

    Raises:
        UnavailableError, AccessError.
    """
    known = KnownVersions()
    tail = TailReader(connection(settings))
    async for records in tail.read(Topics(settings.topic_prefix).versions, 0, 0):
        for record in records:
            known.learn(record)
    return known


async def known_scales(settings: Settings) -> Scales:
    """The calibrations of all versions; none where Kafka does not answer."""
    with contextlib.suppress(LabelstreamError):
        return (await read_versions(settings)).calibrations
    return {}


async def follow_versions(addresses: Callable[[], Settings], known: KnownVersions) -> None:
    """Read the versions topic into ``known``, and what is added to it, until cancelled. ``addresses``: the
    settings with the broker's address, which is asked for again until there is one.
    """
    while True:
        settings = await asyncio.to_thread(addresses)
        with contextlib.suppress(LabelstreamError):
            follower = Follower(connection(settings), Topics(settings.topic_prefix).versions, known.learn)
            await follower.run()
        await asyncio.sleep(_AGAIN_SECONDS)


async def register(client: ClickHouseClient, settings: Settings, spec: LabelSpec, *, live: bool) -> None:
    """Record ``spec`` in `label_versions`. ``live``: live rows are labelled under it.

    A live version is promoted, as nothing else would be shown. Where people labelled rows that the current
    version has too, it is a trial until somebody promotes it: nobody knows yet whether it is worse.

    Raises:
        UnavailableError, ConfigurationError: as the client.
    """
    trial = not live or await has_gold(client, settings, spec.version)
    if live and trial:
        log.warning(
            "label_version_on_trial",
            version=spec.version,
            fix="`labelstream versions promote` compares it with the current one",
        )
    await register_version(
        client,
        settings,
        version=spec.version,
        model=spec.model,
        prompt=spec.prompt_digest,
        taxonomy=spec.taxonomy_digest,
        mode=spec.mode,
        status=TRIAL if trial else PROMOTED,
        live=live and trial,
    )
