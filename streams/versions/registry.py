"""Registers a version on the versions topic, and reads the known ones."""

from __future__ import annotations

import structlog

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.queries.label_versions import PROMOTED, TRIAL, register_version
from connectors.kafka.connection import connection
from connectors.kafka.tail import TailReader
from streams.core.label_version import LabelSpec
from streams.core.settings import Settings
from streams.core.topics import Topics
from streams.quality.gate import has_gold
from streams.versions.topic import KnownVersions

log = structlog.get_logger()


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
