"""The API's role: connects the routes' ports with their implementations, and serves them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import structlog
from prometheus_client.metrics_core import Metric

from connectors.api.access.authentication import is_loopback
from connectors.api.app import Options, create_app
from connectors.api.server import listening, serving
from connectors.api.services import Services
from streams.api.audit_log import AuditLog
from streams.api.classifier import LabelOnDemand
from streams.api.discovery import NewTopics
from streams.api.label_feed import LabeledFeed
from streams.api.overview import OverviewBoard
from streams.api.page_operations import PageOperations
from streams.api.quality import QualityBoard
from streams.core.api_keys import parse_keys
from streams.core.background import in_background
from streams.core.errors import ConfigurationError
from streams.core.settings import Settings
from streams.core.topics import Topics
from streams.files.service import FileWork
from streams.jobs.scheduler import JobScheduler
from streams.observability.collectors import ApiRequests, privacy_metrics, privacy_state, waits_metric
from streams.observability.health import Health, application
from streams.ports.page import PagePorts
from streams.privacy.door import Door, opened
from streams.review.queue import ReviewQueue
from streams.runtime.erasures import KnownErasures
from streams.runtime.local_stack import with_local_stack
from streams.runtime.result_tables import ResultTables
from streams.runtime.secret import secret_ready
from streams.versions.cascade import state_shown
from streams.versions.registry import follow_versions
from streams.versions.topic import KnownVersions

log = structlog.get_logger()


async def api(settings: Settings, health: Health) -> None:
    """Serve the API until cancelled. It does not wait for dependencies: a request fails if one that it needs
    is down.

    Raises:
        ConfigurationError: the port is taken, no key is set and the host is not only this machine,
            PRIVACY_ENTITIES asks for what cannot be masked here, or PRIVACY_SECRET is not what it was.
    """
    options = options_of(settings)
    with contextlib.closing(listening(settings.api_host, settings.api_port)) as bound:
        port = bound.getsockname()[1]
        async with contextlib.AsyncExitStack() as parts:
            door = await parts.enter_async_context(opened(settings, start=True))
            keeper = JobScheduler(lambda: with_local_stack(settings), door)
            await parts.enter_async_context(keeper.at_work())
            services, ending = await services_of(settings, health, keeper, parts, door)
            requests = ApiRequests()
            replay = Topics(settings.topic_prefix).replay

            def measure() -> Iterable[Metric]:
                yield from requests.collect()
                yield waits_metric(keeper.waits, {replay: "replay"})
                yield from privacy_metrics(door)

            health.measure = measure
            async with serving(create_app(services, options, requests.observe), bound, ending) as server:
                host = f"[{settings.api_host}]" if ":" in settings.api_host else settings.api_host
                if not options.keys:
                    log.warning("API_KEYS is not set: the API serves this machine only, and asks for no key")
                log.info("api", url=f"http://{host}:{port}", keys=len(options.keys))
                health.state = lambda: {
                    "api": f"http://{host}:{port}",
                    "keys": len(options.keys),
                    "privacy": privacy_state(door),
                }
                health.working()
                # It does not wait for Kafka, but ends if it has a wrong secret.
                verifying = asyncio.create_task(secret_ready(settings))
                parts.callback(verifying.cancel)
                await asyncio.wait([server, verifying], return_when=asyncio.FIRST_COMPLETED)
                if verifying.done():
                    verifying.result()
                await server


def options_of(settings: Settings) -> Options:
    """The API's options.

    Raises:
        ConfigurationError: no key is set and API_HOST is not only this machine.
    """
    keys = parse_keys(settings.api_keys.get_secret_value()) if settings.api_keys else ()
    if not keys and not is_loopback(settings.api_host):
        raise ConfigurationError(
            f"API_HOST is {settings.api_host}, and API_KEYS is not set: without keys the API serves this "
            "machine only",
            setting="API_KEYS",
            fix="set API_KEYS, or API_HOST to 127.0.0.1",
        )
    return Options(
        keys=keys,
        requests_per_second=settings.api_requests_per_second,
        body_bytes=settings.api_body_bytes,
        stream_seconds=settings.api_stream_seconds,
        # The file comes with the lines of the form.
        larger={"/upload": settings.api_upload_bytes + 65_536},
        session_secret=settings.api_session_secret.get_secret_value()
        if settings.api_session_secret
        else None,
    )


async def services_of(
    settings: Settings,
    health: Health,
    keeper: JobScheduler,
    parts: contextlib.AsyncExitStack,
    door: Door | None,
) -> tuple[Services, Callable[[], None]]:
    """The ports' implementations, which ``parts`` closes, and a function that ends their streams. ``keeper``:
    at work. ``door``: what masks texts.
    """

    tables = ResultTables(settings)
    parts.push_async_callback(tables.close)

    versions = KnownVersions()
    following = in_background(follow_versions(lambda: with_local_stack(settings), versions), "versions")
    parts.callback(following.cancel)
    classifier = LabelOnDemand(settings, versions, door)
    parts.push_async_callback(classifier.close)

    erasures = KnownErasures(tables)
    erasing = in_background(erasures.run(), "erasures")
    parts.callback(erasing.cancel)
    feed = LabeledFeed(settings, erasures)
    parts.push_async_callback(feed.close)

    files = FileWork(lambda: with_local_stack(settings), keeper)
    operations, review = PageOperations(settings, files), ReviewQueue(settings, tables, door)
    board = OverviewBoard(
        settings,
        tables,
        feed,
        files.jobs,
        lambda: keeper.context.losses.by_reader(),
        erasures.edition,
        lambda version: state_shown(settings, versions, version),
    )
    audit = AuditLog(tables)
    for one in (audit, operations, review, board):
        parts.push_async_callback(one.close)

    def ending() -> None:
        feed.stop()
        board.stop()

    topics = NewTopics(settings, tables, erasures.edition)
    quality = QualityBoard(tables, versions.calibrations, versions.drift, topics)
    services = Services(
        health=_health(health),
        lookups=tables,
        classifier=classifier,
        feed=feed,
        files=files,
        page=PagePorts(
            overview=board,
            operations=operations,
            review=review,
            audit=audit,
            quality=quality,
        ),
    )
    return services, ending


def _health(health: Health) -> Callable[[str], Any]:
    answers = application(health)

    def ask(path: str) -> tuple[int, str, bytes]:
        told: list[tuple[int, str]] = []

        def start(status: str, headers: list[tuple[str, str]], *_: object) -> None:
            told.append((int(status.split()[0]), dict(headers).get("Content-Type", "text/plain")))

        content = b"".join(answers({"REQUEST_METHOD": "GET", "PATH_INFO": path, "QUERY_STRING": ""}, start))
        return (*told[0], content)

    async def in_thread(path: str) -> tuple[int, str, bytes]:
        return await asyncio.to_thread(ask, path)

    return in_thread
