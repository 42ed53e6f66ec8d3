"""`labelstream check`: tries every connection, column, model, topic and right, and says what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial

from agents.label import label_spec, labeler_of
from agents.taxonomy import load_taxonomy
from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.poller.bulk_source import BulkSource
from connectors.clickhouse.schema.add_projections import missing_projections
from connectors.clickhouse.schema.grants import (
    missing_tables,
    refuse_missing_rights,
    refuse_missing_rights_of,
)
from connectors.clickhouse.schema.migrations import refuse_other_schema
from connectors.clickhouse.schema.retention import changing_statements, other_retention
from connectors.clickhouse.schema.topology import look_at_every_host
from connectors.kafka.admin import Admin
from connectors.kafka.connection import connection, reach
from connectors.kafka.tail import TailReader
from connectors.kafka.topics.declared import (
    FoundTopic,
    differences,
    refuse_other_config,
    refuse_other_count,
)
from connectors.llm.cache import Shared
from connectors.llm.client import ChatClient
from streams.core.errors import ConfigurationError, LabelstreamError, PermanentError, UnavailableError
from streams.core.messages import Row
from streams.core.outcomes import Done
from streams.core.settings import Settings
from streams.core.topics import Topics
from streams.jobs.job import read_cursor_topic
from streams.operations.endpoint_check import MODELS, MODELS_OF
from streams.operations.finding import Finding
from streams.operations.kafka_rights import check_rights
from streams.operations.retention import (
    describe_late,
    describe_lost,
    find_late_readers,
)
from streams.privacy.door import entities_of, opened
from streams.runtime.secret import verify_secret
from streams.runtime.tracing import reach_collector
from streams.versions.registry import read_versions
from streams.versions.topic import KnownVersions

_DAY_MS = 86_400_000
# Roles that read no source table.
_WITHOUT_SOURCE = ("agents", "sink")
_PATIENCE_SECONDS = 15.0  # for a model that does not answer


async def check_all(settings: Settings, role: str = "") -> list[Finding]:
    """Run every check; a failure does not prevent the others. ``role``: only what that one needs, with a user
    of its own.
    """
    findings = [await _try("taxonomy", _taxonomy, settings), await _try("privacy", _privacy, settings)]
    findings.append(await _try("kafka connection", _kafka, settings))
    known = KnownVersions()
    if findings[-1].ok:
        findings.append(await _try("kafka rights", partial(check_rights, role=role), settings))
        findings.append(await _try("kafka topics", _topics, settings))
        if findings[-1].ok:
            if not role:
                findings.append(await _try("retention", _retention, settings))
            if settings.privacy_secret is not None:
                findings.append(await _try("privacy secret", _secret, settings))
            with contextlib.suppress(LabelstreamError):
                known = await read_versions(settings)
    findings.append(await _try("clickhouse connection", _clickhouse, settings))
    if findings[-1].ok:
        if role not in _WITHOUT_SOURCE:
            findings.append(await check_source(settings))
        results = partial(_results_of, role=role) if role else _results
        findings.append(await _try("result tables", results, settings))
    for which in MODELS_OF.get(role, MODELS):
        findings.append(await _try(f"{which} endpoint", lambda s, w=which: _model(s, w), settings))  # type: ignore[misc]
        if which == "labeler" and findings[-1].ok:
            findings.append(await _try("a label", partial(_label, known=known), settings))
    if settings.otel_exporter_otlp_endpoint or settings.otel_exporter_otlp_traces_endpoint:
        findings.append(await _try("traces", reach_collector, settings))
    return findings


async def check_source(settings: Settings) -> Finding:
    """Whether each row of the source table can be read once, and what is to be known of it."""
    return await _try("source table", _source, settings)


async def _try(name: str, attempt: Callable[[Settings], Awaitable[str]], settings: Settings) -> Finding:
    try:
        return Finding(name, True, await attempt(settings))
    except LabelstreamError as error:
        setting, fix = getattr(error, "setting", ""), getattr(error, "fix", "")
        if isinstance(error, UnavailableError) and not fix:
            fix = "check the address, and that the server is up and can be reached from here"
        return Finding(name, False, str(error), setting, fix)


async def _taxonomy(settings: Settings) -> str:
    taxonomy = load_taxonomy(settings.taxonomy_path)
    return f"{len(taxonomy.names)} labels in {settings.taxonomy_path}"


async def _privacy(settings: Settings) -> str:
    async with opened(settings, start=True) as door:
        if door is None:
            return "off: personal data is published as it is"
        await door.text("проверка")
        names = ", ".join(sorted(entities_of(settings)))
        return f"mask: {names}; users and sessions are pseudonyms"


async def _secret(settings: Settings) -> str:
    await verify_secret(settings, note=False)
    return "each generation is the secret that it was, as far as it was ever used"


async def _kafka(settings: Settings) -> str:
    brokers = await reach(settings)
    return f"{settings.kafka_bootstrap_servers}, {brokers} broker(s), {settings.kafka_security_protocol}"


async def _topics(settings: Settings) -> str:
    wanted = {topic.name: topic for topic in Topics(settings.topic_prefix).all()}
    found: dict[str, FoundTopic] = await Admin(connection(settings)).find(list(wanted))
    missing = [name for name in wanted if name not in found]
    if missing:
        raise ConfigurationError(
            f"missing: {', '.join(missing)}", setting="TOPIC_PREFIX", fix="make them: labelstream init"
        )
    for name, topic in found.items():
        refuse_other_count(topic.partitions, wanted[name], settings)
        refuse_other_config(topic, wanted[name])
        _refuse_short_tables(topic, settings)
    told = [f"{len(found)} topics, {settings.topic_partitions} partitions each"]
    # No failure: everything works, and costs more.
    told += [
        f"{change.topic} has {change.name}={change.before} instead of {change.after}: "
        + (f"{change.kept}; by hand: {change.command()}" if change.kept else "labelstream init")
        for name, topic in found.items()
        for change in differences(topic, wanted[name], settings)
    ]
    return "; ".join(told)


def _refuse_short_tables(topic: FoundTopic, settings: Settings) -> None:
    """As the settings do by TOPIC_RETENTION_DAYS, by what the topic has in fact."""
    days, config = settings.result_retention_days, topic.config
    if not days or config.get("cleanup.policy") == "compact":
        return
    retention, segment = int(config.get("retention.ms", -1)), int(config.get("segment.ms", -1))
    if retention < 0 or retention + max(segment, 0) > days * _DAY_MS:
        raise ConfigurationError(
            f"topic {topic.name} keeps messages for longer (retention.ms={retention}, segment.ms={segment}) "
            f"than the result tables: {days} days; a sink that is rewound would store them again",
            setting="RESULT_RETENTION_DAYS",
            fix="raise it, or lower retention.ms with Kafka's own tools",
        )


async def _retention(settings: Settings) -> str:
    _, losses = await read_cursor_topic(Topics(settings.topic_prefix), TailReader(connection(settings)))
    # No failure: writers wait, and the poller finds the rows again, so that starting the roles mends it.
    found = [describe_late(one) for one in await find_late_readers(settings)]
    found += [describe_lost(one) for one in losses.by_reader()]
    return "; ".join(found) or "nothing was lost, and no reader is late"


async def _with_clickhouse(settings: Settings, use: Callable[[ClickHouseClient], Awaitable[str]]) -> str:
    async with ClickHouseClient.from_settings(settings) as client:
        return await use(client)


async def _clickhouse(settings: Settings) -> str:
    async def use(client: ClickHouseClient) -> str:
        version = await client.command("SELECT version()")
        return f"{client.hosts.current}, version {version}"

    return await _with_clickhouse(settings, use)


async def _source(settings: Settings) -> str:
    async def use(client: ClickHouseClient) -> str:
        source = BulkSource(client, settings)
        found = await source.verify()
        await source.sample()
        without, notes = await source.without_time(), await source.notes()
        if not await _first_of(source, None):
            if (why := await source.why_nothing(None)) is not None:
                raise why
            notes.append("it is empty so far")
        elif not await source.any_text(settings.min_text_length):
            raise ConfigurationError(
                f"each text in {settings.clickhouse_text_column} of {source.name} has "
                f"{settings.min_text_length} bytes or fewer, so that none is labelled",
                setting="CLICKHOUSE_TEXT_COLUMN",
                fix="name the column with the query's text, or lower MIN_TEXT_LENGTH",
            )
        elif not await _first_of(source, await source.floor(settings.poll_start)):
            notes.append(f"no row is as new as POLL_START={settings.poll_start}")
        named = (
            settings.clickhouse_text_column,
            settings.clickhouse_timestamp_column,
            settings.clickhouse_id_column,
            settings.clickhouse_user_id_column,
        )
        types = found.types
        text = ", ".join(f"{name} {types[name]}" for name in named if name in types)
        if without:
            notes.insert(0, f"{without} rows have no time and are left out")
        return "; ".join([f"{source.name} ({text})", *notes])

    return await _with_clickhouse(settings, use)


async def _first_of(source: BulkSource, since: int | None) -> bool:
    """Whether the poller would find a row."""
    async with contextlib.aclosing(source.bulk(since)) as pages:
        async for _ in pages:
            return True
    return False


async def _results(settings: Settings) -> str:
    async def use(client: ClickHouseClient) -> str:
        held_by = await look_at_every_host(client, settings)
        missing = await missing_tables(client, settings)
        if missing:
            raise ConfigurationError(
                f"missing in {settings.result_database}: {', '.join(missing)}",
                setting="CLICKHOUSE_RESULT_DATABASE",
                fix="make them: labelstream init",
            )
        await refuse_other_schema(client, settings.result_database)
        await refuse_missing_rights(client, settings)
        found = f"all in {settings.result_database} ({held_by}), may be written"
        if other := await other_retention(client, settings):
            raise ConfigurationError(
                f"{', '.join(table for table, _ in other)} keep their lines for another time than "
                f"RESULT_RETENTION_DAYS says: {settings.result_retention_days}",
                setting="RESULT_RETENTION_DAYS",
                fix="labelstream init changes the tables; by hand: "
                + "; ".join(changing_statements(settings, other)),
            )
        if slow := await missing_projections(client, settings.result_database):
            found += f"; queries over all of {', '.join(slow)} are slow without projections: labelstream init"
        return found

    return await _with_clickhouse(settings, use)


async def _results_of(settings: Settings, role: str) -> str:
    """The tables that its user may not read are hidden from it, so nothing is said of their kind."""

    async def use(client: ClickHouseClient) -> str:
        return f"it may {await refuse_missing_rights_of(client, settings, role)}"

    return await _with_clickhouse(settings, use)


async def _model(settings: Settings, which: str) -> str:
    client = ChatClient.from_settings(settings, which)
    try:
        await client.agree()
        offered = await client.models()
        name = await client.model()
        if name not in offered:
            raise ConfigurationError(
                f"the endpoint does not offer {name}; it offers {', '.join(offered) or 'nothing'}",
                setting=f"LLM_{which.upper()}_MODEL",
                fix="set it to one of them",
            )
        places = len(settings.api_bases(which))
        return f"model {name}" if places == 1 else f"model {name}, served by each of {places} endpoints"
    finally:
        await client.close()


async def _label(settings: Settings, known: KnownVersions) -> str:
    client = ChatClient.from_settings(settings, "labeler", patience_seconds=_PATIENCE_SECONDS)
    try:
        # A body that is no JSON, a wrong key: this says what is wrong with the endpoint, not with the model.
        with contextlib.suppress(PermanentError):
            await client.complete([{"role": "user", "content": "1"}], max_tokens=1)
        spec = await label_spec(settings, client, load_taxonomy(settings.taxonomy_path))
        spec = known.under_own_name(spec)  # as the workers do
        now = datetime.now(UTC)
        row = Row(row_id="check", text="не могу войти", created_at=now, polled_at=now)
        outcome = await labeler_of(spec, client, Shared()).label(row)
    finally:
        await client.close()
    if not isinstance(outcome, Done):
        raise ConfigurationError(
            f"the model gave no label: {getattr(outcome, 'error', '') or outcome.reason}",
            setting="LLM_LABELER_MODEL",
            fix="try another model; it must follow a JSON schema or answer with one JSON object",
        )
    sure = outcome.message.confidence
    return (
        f"{outcome.message.label}, "
        + (
            f"confidence {sure:.2f}"
            if sure is not None
            else "without confidence: the endpoint tells no logprobs of it"
        )
        + f"; label version {spec.version}"
    )
