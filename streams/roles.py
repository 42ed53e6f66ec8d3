"""The roles: each takes settings, waits for what it needs, and works until cancelled.

This is where the parts are put together; what flows where is in `streams/flow.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import structlog

from agents.augment import Augmenter
from agents.label import cache_entry, make_labeler
from agents.taxonomy import load_taxonomy
from connectors.clickhouse.client import ClickHouseClient
from connectors.clickhouse.ddl import create_tables
from connectors.clickhouse.poller import Poller
from connectors.clickhouse.sink import Sink, writer_for
from connectors.clickhouse.source import SourceTable
from connectors.clickhouse.versions import register_version
from connectors.kafka.admin import Admin, refuse_other_count
from connectors.kafka.connection import connection, reach
from connectors.kafka.consumer import GroupConsumer, Session
from connectors.kafka.lease import GroupLease
from connectors.kafka.producer import LeasedProducer
from connectors.kafka.tail import TailReader
from connectors.llm.cache import Shared
from connectors.llm.client import ChatClient
from streams.app import AgentsWorker
from streams.codec import decode
from streams.delivery import Delivery
from streams.errors import ConfigurationError, RetryableError, UndecodableError
from streams.flow import agents_flow
from streams.local import with_local_stack
from streams.messages import Augmented, Labeled
from streams.ports import Record
from streams.settings import Settings
from streams.stage import Limits
from streams.supervise import Supervisor
from streams.topics import Topics, groups
from streams.waiting import until_available

log = structlog.get_logger()

_AGAIN_SECONDS = 1.0


async def run_poller(settings: Settings) -> None:
    """Publish the source table's rows; stands by while another poller is active."""
    settings, topics = await _kafka_ready(settings)
    client = await until_available("ClickHouse", _clickhouse(settings))
    arguments = connection(settings)
    admin = Admin(arguments)
    group = GroupConsumer(arguments, groups(settings.topic_prefix)["poller"], (topics.cursor,))
    producer = LeasedProducer(arguments, group.lease)
    group.fence_with(producer.fence)
    counts: Counter[str] = Counter()

    async def poll(session: Session) -> None:
        poller = Poller(
            SourceTable(client, settings),
            topics,
            settings,
            partitions=settings.topic_partitions,
            sender=producer,
            tail=TailReader(arguments),
            topic_ids=admin,
            lease=group.lease,
            generation=session.generation,
            ending=session.ending,
            counts=counts,
        )
        await poller.run()

    try:
        await _stay_in(group, poll)
    finally:
        log.info("poller_ends", **counts)
        await producer.stop()
        await client.close()


async def run_sink(settings: Settings) -> None:
    """Store what the topics carry."""
    settings, topics = await _kafka_ready(settings)
    client = await until_available("ClickHouse", _clickhouse(settings))
    writer = writer_for(settings)
    arguments = connection(settings)
    group = GroupConsumer(arguments, groups(settings.topic_prefix)["sink"], ())
    producer = LeasedProducer(arguments, group.lease)
    group.fence_with(producer.fence)
    sink = Sink(
        client,
        settings.result_database,
        topics,
        sender=producer,
        tail=TailReader(arguments),
        topic_ids=Admin(arguments),
        lease=group.lease,
        writer=writer,
    )
    group.subscribe(sink.topics)

    async def store(session: Session) -> None:
        await sink.run(session, session.committed, session.generation)

    try:
        await _stay_in(group, store)
    finally:
        log.info("sink_ends", **sink.counts)
        await producer.stop()
        await client.close()
        await writer.close()


async def run_agents(settings: Settings) -> None:
    """Label and augment, as one member of the agents' group."""
    settings, topics = await _kafka_ready(settings)
    taxonomy = load_taxonomy(settings.taxonomy_path)
    arguments = connection(settings)
    lease = GroupLease()
    producer = LeasedProducer(arguments, lease)
    async with _chat(settings, "labeler") as labeler, _chat(settings, "augmenter") as augmenter:
        labels, variants = Shared(), Shared()
        label, version = await until_available(
            "the labelling model", lambda: make_labeler(settings, labeler, taxonomy, labels)
        )
        augmenting = Augmenter(augmenter, settings.augment_variants, variants)

        def recall(record: Record) -> None:
            """Answers that were published are not asked for again, whoever got them."""
            kind: type[Labeled] = Labeled if record.topic == topics.labeled else Augmented
            with contextlib.suppress(UndecodableError):
                message = decode(kind, record.value)
                if isinstance(message, Augmented):
                    if (entry := augmenting.cache_entry(message)) is not None:
                        variants.warm(*entry)
                elif message.label_version == version:
                    labels.warm(*cache_entry(message))

        delivery = Delivery(
            agents_flow(
                topics, label=label, label_version=version, augment=augmenting.augment, recall=recall
            ),
            sender=producer,
            tail=TailReader(arguments),
            topic_ids=Admin(arguments),
            lease=lease,
            limits=Limits(
                in_flight={
                    Labeled.made_by: settings.llm_labeler_concurrency,
                    Augmented.made_by: settings.llm_augmenter_concurrency,
                }
            ),
        )
        data = settings.labelstream_data / "agents"
        data.mkdir(parents=True, exist_ok=True)
        worker = AgentsWorker(
            group=groups(settings.topic_prefix)["agents"],
            connection=arguments,
            data=data,
            lease=lease,
            producer=producer,
            topic_ids=Admin(arguments),
            delivery=delivery,
            agents={"label": (topics.rows, topics.replay), "augment": (topics.labeled,)},
        )
        log.info("agents_begin", label_version=version, model=await labeler.model())
        registering = asyncio.create_task(
            _register(settings, version, await labeler.model(), taxonomy.digest)
        )
        try:
            await worker.run()
        finally:
            registering.cancel()
            log.info("agents_end", **delivery.counts)
            await producer.stop()


async def run_all(settings: Settings) -> None:
    """Every role as a process of its own, started again when it fails."""

    async def attempt() -> None:
        await initialise(with_local_stack(settings))

    await until_available("Kafka and ClickHouse", attempt)
    await Supervisor(("poller", "agents", "sink"), os.environ).run()


async def initialise(settings: Settings) -> dict[str, Any]:
    """Make the topics and the result tables that are missing.

    Raises:
        UnavailableError, ConfigurationError: what does not answer, or who may not.
    """
    await reach(settings)
    made = await Admin(connection(settings)).create_topics(settings)
    client = ClickHouseClient.from_settings(settings)
    try:
        await create_tables(client, settings)
    finally:
        await client.close()
    return {"topics": made, "database": settings.result_database}


async def _kafka_ready(settings: Settings) -> tuple[Settings, Topics]:
    """Wait for Kafka and for the topics; the settings with the local stack's addresses filled in."""

    async def attempt() -> Settings:
        found = with_local_stack(settings)
        await reach(found)
        return found

    settings = await until_available("Kafka", attempt)
    topics = Topics(settings.topic_prefix)

    async def made() -> None:
        admin = Admin(connection(settings))
        wanted = {topic.name: topic for topic in topics.all()}
        found = await admin.find(list(wanted))
        missing = sorted(set(wanted) - set(found))
        if missing:
            raise ConfigurationError(
                f"there is no topic {', '.join(missing)}",
                setting="TOPIC_PREFIX",
                fix="make the topics and tables: labelstream init",
            )
        for topic in found.values():
            refuse_other_count(topic.partitions, wanted[topic.name], settings)

    await until_available("the topics", made)
    return settings, topics


def _clickhouse(settings: Settings) -> Any:
    async def attempt() -> ClickHouseClient:
        client = ClickHouseClient.from_settings(with_local_stack(settings))
        try:
            await client.command("SELECT 1")
        except BaseException:
            await client.close()
            raise
        return client

    return attempt


@contextlib.asynccontextmanager
async def _chat(settings: Settings, which: str) -> AsyncIterator[ChatClient]:
    async def attempt() -> ChatClient:
        return ChatClient.from_settings(with_local_stack(settings), which)

    client = await until_available(f"the {which} endpoint", attempt)
    try:
        yield client
    finally:
        await client.close()


async def _stay_in(group: GroupConsumer, work: Any) -> None:
    """Be a member of the group, again and again if Kafka goes away for long."""
    while True:
        try:
            await group.run(work)
        except RetryableError as error:
            log.warning("waiting for Kafka", reason=str(error), setting="KAFKA_BOOTSTRAP_SERVERS")
        await asyncio.sleep(_AGAIN_SECONDS)


async def _register(settings: Settings, version: str, model: str, taxonomy: str) -> None:
    """Note the live version in `label_versions`, whenever ClickHouse is there."""

    async def attempt() -> None:
        client = ClickHouseClient.from_settings(with_local_stack(settings))
        try:
            await register_version(client, settings, version=version, model=model, taxonomy=taxonomy)
        finally:
            await client.close()

    try:
        await until_available("ClickHouse (to note the label version)", attempt)
    except asyncio.CancelledError:
        raise
    except Exception as error:
        log.warning("label_version_not_noted", version=version, error=str(error))
