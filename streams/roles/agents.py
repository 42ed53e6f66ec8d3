"""The agents' role: connects the label and augment steps, their models, and one delivery."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any

import structlog
from prometheus_client.metrics_core import Metric

from agents.augment import Augmenter
from agents.label import cache_entry, label_spec, labeler_of
from agents.taxonomy import load_taxonomy
from agents.verify import Verifier
from connectors.kafka.admin import Admin
from connectors.kafka.admin_client import AdminClient
from connectors.kafka.backlog import BacklogReader
from connectors.kafka.connection import connection
from connectors.kafka.group_view import GroupView
from connectors.kafka.headroom import ReaderHeadroom
from connectors.kafka.lease import GroupLease
from connectors.kafka.producer import LeasedProducer
from connectors.kafka.reader_positions import ReaderPositions
from connectors.kafka.tail import TailReader
from connectors.llm.cache import Shared
from connectors.llm.client import ChatClient
from streams.core.availability import until_available
from streams.core.codec import decode
from streams.core.errors import LabelstreamError, UndecodableError
from streams.core.label_version import LabelSpec
from streams.core.messages import Augmented, Labeled
from streams.core.records import Partition, Record
from streams.core.settings import Settings
from streams.core.topics import Topics
from streams.delivery.delivery import Delivery
from streams.delivery.replay_throttle import Leftover
from streams.delivery.routes import Flow, Limits
from streams.drift.asking import EndpointDrift
from streams.observability.collectors import (
    StageLatency,
    agents_metrics,
    cache_metrics,
    cascade_metrics,
    lost_metrics,
    member_metrics,
    outage_metric,
    outages_of,
    span_metrics,
    verify_metrics,
    waits_metric,
)
from streams.observability.health import Health
from streams.observability.losses import LossReporter
from streams.observability.metrics import LABEL_VERSION, LLM_CALL_SECONDS, Histogram
from streams.observability.step_spans import StepSpans
from streams.observability.tracer import Tracer
from streams.observability.watchdog import Watchdog
from streams.pipeline.label_steps import LabelSteps
from streams.pipeline.llm_metrics import EndpointReading, llm_metrics
from streams.pipeline.topology import agents_flow
from streams.pipeline.worker import AgentsWorker
from streams.privacy.door import opened
from streams.quality.audit import verifies
from streams.runtime.erasures import KnownErasures
from streams.runtime.interpreter_tuning import for_short_waits
from streams.runtime.lag_metrics import Lags
from streams.runtime.lifecycle import lag_owed, membership_owed, watched
from streams.runtime.readiness import chat_ready, kafka_ready
from streams.runtime.result_tables import ResultTables
from streams.runtime.tracing import traced
from streams.versions.topic import KnownVersions

log = structlog.get_logger()

_LOSSES_SECONDS = 10.0
_LOOK_SECONDS = 0.25  # seconds between two checks of the outputs' readers


async def agents(settings: Settings, health: Health) -> None:
    """Label and augment until cancelled.

    Raises:
        ConfigurationError: the taxonomy is invalid.
        UnavailableError, StalledError: the role must be restarted.
    """
    taxonomy = load_taxonomy(settings.taxonomy_path)
    settings, topics = await kafka_ready(settings, health)
    async with (
        chat_ready(settings, "labeler", health) as labeler,
        chat_ready(settings, "augmenter", health) as augmenter,
        opened(settings, start=True) as door,
        traced(settings, "agents") as tracer,
        contextlib.AsyncExitStack() as parts,
    ):
        labels, variants = Shared(), Shared()
        health.wait_for("the labelling model")
        live = await until_available("the labelling model", lambda: label_spec(settings, labeler, taxonomy))
        versions = LabelSteps(settings, topics, labeler, labels, live)
        health.wait_for("the label versions")
        await versions.start()
        live, known = versions.live, versions.known
        verifier = Verifier(
            partial(versions.label_as, beside=True),
            live.version,
            partial(verifies, settings),
            room=partial(Leftover().beside_live, labeler.concurrency),
        )
        augmenting = Augmenter(
            augmenter,
            settings.augment_variants,
            variants,
            mask=None if door is None else door.texts,
            verifier=verifier,
        )
        log.info("agents_begin", label_version=live.version, model=live.model)
        tables = ResultTables(settings)
        parts.push_async_callback(tables.close)
        erasures = KnownErasures(tables)
        await erasures.begin()
        flow = agents_flow(
            topics,
            label=labeler_of(
                live,
                labeler,
                labels,
                partial(known.calibration_of, live.version),
                versions.router_of(live.version),
            ).label,
            label_version=live.version,
            augment=augmenting.augment,
            label_as=versions.label_as,
            model_as=partial(versions.label_as, by_model=True),
            recall=_recall(topics, live.version, known, labels, augmenting, variants),
            unwanted=known.unwanted,
            erased=erasures.covers,
        )
        models = {"labeler": labeler, "augmenter": augmenter}
        answers = {Labeled.made_by: labels, Augmented.made_by: variants}
        beside = (versions.run, erasures.run)
        drift = partial(EndpointDrift, topics, live, labeler, tables, known.drift)
        await _deliver(
            settings,
            topics,
            health,
            models,
            answers,
            live,
            flow,
            beside,
            tracer,
            verifier,
            drift,
            versions.routed,
        )


async def _deliver(
    settings: Settings,
    topics: Topics,
    health: Health,
    models: dict[str, ChatClient],
    answers: dict[str, Shared],
    live: LabelSpec,
    flow: Flow,
    beside: Iterable[Callable[[], Coroutine[Any, Any, None]]],
    tracer: Tracer | None,
    verifier: Verifier,
    drift: Callable[..., EndpointDrift],
    routed: Counter[str],
) -> None:
    """Process the messages of ``flow`` until cancelled, with everything that watches and measures it."""
    arguments, group = connection(settings), topics.groups.agents
    latency, call_seconds = StageLatency(), Histogram(LLM_CALL_SECONDS)
    lease = GroupLease()
    producer = LeasedProducer(arguments, lease)
    spans = None if tracer is None else StepSpans(tracer, group.name, flow.replays)
    for name, model in models.items():
        # A worker that was paused may wake up with calls that another one has made long ago.
        model.watch(
            permitted=lease.held,
            observe=call_seconds.series(name).observe,
            traced=None if spans is None else spans.called,
        )
    brokers = AdminClient(arguments, kept=True)
    tail, admin = TailReader(arguments, brokers), Admin(arguments, brokers)
    readers = ReaderPositions(arguments, topics.groups.readers_of(topics.groups.sink.topics), brokers)
    writers = dict.fromkeys((topics.labeled, topics.shadow, topics.dead_letter), Labeled.made_by)
    writers[topics.augmented] = Augmented.made_by
    headroom = ReaderHeadroom(readers, size_of=producer.size_of)
    losses = LossReporter(group.name, topics.cursor, producer, lease)
    delivery = Delivery(
        flow,
        sender=producer,
        tail=tail,
        topic_ids=admin,
        lease=lease,
        limits=Limits(
            in_flight={
                Labeled.made_by: models["labeler"].concurrency,
                Augmented.made_by: models["augmenter"].concurrency,
            }
        ),
        observe=latency.observe,
        report=losses.report,
        full=headroom.full,
        spans=spans,
    )
    first = Partition(topics.rows, 0)
    asker = drift(sender=producer, lease=lease, asks=lambda: first in delivery.positions())
    lags = Lags(
        BacklogReader(arguments),
        group.step_of,
        delivery.positions,
    )
    data = settings.labelstream_data / "agents"
    data.mkdir(parents=True, exist_ok=True)
    view = GroupView(arguments, group.name, brokers)
    worker = AgentsWorker(
        group=group.name,
        connection=arguments,
        data=data,
        lease=lease,
        producer=producer,
        topic_ids=admin,
        delivery=delivery,
        agents=group.steps,
    )

    def measure() -> Iterable[Metric]:
        yield from agents_metrics(delivery.counts, delivery.in_flight, delivery.waiting)
        yield from llm_metrics(
            {name: EndpointReading(one.state(), one.stats, one.form) for name, one in models.items()}
        )
        yield from cache_metrics(answers)
        yield from verify_metrics(verifier.counts)
        yield from cascade_metrics(settings.cascade, routed)
        yield latency.histogram.collect()
        yield call_seconds.collect()
        yield from lags.measure()
        yield waits_metric(headroom.waits, writers)
        yield outage_metric(producer.outages)
        yield from lost_metrics(losses)
        yield from member_metrics(lease)
        yield from span_metrics(tracer)
        yield from asker.measure()
        yield LABEL_VERSION.one(1.0, live.version, live.model)

    def state() -> dict[str, Any]:
        return {
            "label_version": live.version,
            "counts": dict(delivery.counts),
            "in_flight": delivery.in_flight,
            "taking_over": sorted(f"{one.topic}/{one.partition}" for one in delivery.taking_over()),
            "lost": dict(losses.counts),
            "waits_for": [wait._asdict() for wait in headroom.waits],
            "outages": outages_of(producer.outages),
            "routed": dict(routed),
            "endpoints": {name: vars(model.state()) for name, model in models.items()},
        }

    def progress() -> tuple[int, ...]:
        return (delivery.counts.total(), *(model.stats.total() for model in models.values()))

    async def owes() -> str:
        if problem := await membership_owed(settings, lease):
            return problem
        if not all(model.available for model in models.values()) or headroom.waits:
            return ""  # it waits for Kafka; the log says so
        return await lag_owed(view, lease, {*delivery.taking_over(), *producer.outages})

    health.measure, health.state = measure, state
    for_short_waits()
    health.working()

    async def make_room() -> None:
        while True:
            looks = headroom.looks
            await headroom.refresh()
            if headroom.looks != looks:
                delivery.resume()
            await asyncio.sleep(_LOOK_SECONDS)

    async def find_losses() -> None:
        while True:
            await asyncio.sleep(_LOSSES_SECONDS)
            with contextlib.suppress(LabelstreamError):  # Kafka is down: the next check finds the same
                await delivery.look()

    try:
        await watched(
            worker.run(),
            Watchdog(progress, owes),
            lags.run(),
            make_room(),
            find_losses(),
            asker.run(),
            *(work() for work in beside),
        )
    finally:
        await readers.close()
        await brokers.close()
        log.info("agents_end", **delivery.counts)
        await producer.stop()


def _recall(
    topics: Topics,
    version: str,
    known: KnownVersions,
    labels: Shared,
    augmenting: Augmenter,
    variants: Shared,
) -> Callable[[Record], None]:
    def recall(record: Record) -> None:
        """Published answers are not requested again, whichever worker got them."""
        kind: type[Labeled] = Augmented if record.topic == topics.augmented else Labeled
        with contextlib.suppress(UndecodableError):
            message = decode(kind, record.value)
            if isinstance(message, Augmented):
                if (entry := augmenting.cache_entry(message)) is not None:
                    variants.warm(*entry)
            elif record.topic == topics.shadow or message.label_version == version:
                calibrations = known.calibrations.get(message.label_version)
                if (answer := cache_entry(message, calibrations)) is not None:
                    labels.warm(*answer)

    return recall
