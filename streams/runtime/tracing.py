"""Opens the tracer of a process, where OTEL_EXPORTER_OTLP_ENDPOINT names a collector."""

from __future__ import annotations

import asyncio
import contextlib
import re
import uuid
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from streams.core.errors import ConfigurationError
from streams.core.settings import Settings
from streams.observability.collectors import release
from streams.observability.tracer import Tracer
from streams.ports.spans import Value

if TYPE_CHECKING:
    from connectors.otel.collector import Collector

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@contextlib.asynccontextmanager
async def traced(settings: Settings, role: str) -> AsyncIterator[Tracer | None]:
    """The tracer of ``role``; None if nothing is exported. At the end what waits is sent, for 2 s at most.

    Raises:
        ConfigurationError: a setting cannot be used.
    """
    collector = collector_of(settings)
    if collector is None:
        yield None
        return
    from connectors.otel.exporter import OtlpExporter

    exporter = OtlpExporter(collector, resource_of(settings, role), release())
    try:
        yield Tracer(exporter, settings.otel_traces_sampler, settings.otel_traces_sampler_arg)
    finally:
        await asyncio.to_thread(exporter.close)


async def reach_collector(settings: Settings) -> str:
    """Whether the collector of the settings takes traces, in words.

    Raises:
        as `traced`, and UnavailableError, AccessError, ConfigurationError as the collector answers.
    """
    collector = collector_of(settings)
    if collector is None:
        return "off"
    from connectors.otel.collector import reach

    resource_of(settings, "check")
    await asyncio.to_thread(reach, collector, release())
    sampler, share = settings.otel_traces_sampler, settings.otel_traces_sampler_arg
    by_ratio = f", {share:g} of the rows" if sampler.endswith("ratio") else ""
    return f"{collector.place} takes them; {sampler}{by_ratio}"


def collector_of(settings: Settings) -> Collector | None:
    """The collector of the settings; None for none.

    Raises:
        as `traced`.
    """
    endpoint = settings.otel_exporter_otlp_endpoint
    url = settings.otel_exporter_otlp_traces_endpoint or (endpoint and endpoint.rstrip("/") + "/v1/traces")
    if url is None or settings.otel_sdk_disabled:
        return None
    protocol, name = _of_traces(settings, "protocol")
    if protocol != "http/protobuf":
        raise ConfigurationError(
            f"{name} is {protocol}; only http/protobuf is spoken",
            setting=name,
            fix=f"set it to http/protobuf, and {ENDPOINT} to the collector's port for HTTP, mostly 4318",
        )
    compression, name = _of_traces(settings, "compression")
    if compression not in ("none", "gzip"):
        raise ConfigurationError(f"{name} is {compression}", setting=name, fix="set it to gzip or none")
    from connectors.otel.collector import Collector

    certificate, key = _file(settings, "client_certificate"), _file(settings, "client_key")
    if key is not None and certificate is None:
        name = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"
        raise ConfigurationError(f"there is a key for the collector, and no {name}", setting=name)
    given, name = _of_traces(settings, "headers")
    return Collector(
        url,
        _headers(given.get_secret_value() if given is not None else "", name),
        _file(settings, "certificate"),
        _of_traces(settings, "timeout")[0] / 1000,
        compressed=compression == "gzip",
        cert_file=certificate,
        key_file=key,
    )


def _of_traces(settings: Settings, what: str) -> tuple[Any, str]:
    """The setting for traces alone, else that for all signals; and its name."""
    for field in (f"otel_exporter_otlp_traces_{what}", f"otel_exporter_otlp_{what}"):
        if (value := getattr(settings, field)) is not None:
            return value, field.upper()
    return None, field.upper()


def _file(settings: Settings, what: str) -> str | None:
    path, _ = _of_traces(settings, what)
    return None if path is None else str(path)


def resource_of(settings: Settings, role: str) -> dict[str, Value]:
    """What all spans of a process have in common.

    Raises:
        ConfigurationError: OTEL_RESOURCE_ATTRIBUTES has another form.
    """
    name = "OTEL_RESOURCE_ATTRIBUTES"
    given = _pairs(settings.otel_resource_attributes or "", name)
    return {
        "service.name": settings.otel_service_name or f"labelstream-{role}",
        "service.version": release(),
        "service.instance.id": str(uuid.uuid4()),
        "labelstream.role": role,
        **{
            key: value
            for key, value in given.items()
            if key != "service.name" or not settings.otel_service_name
        },
    }


def _headers(given: str, setting: str) -> dict[str, str]:
    headers = _pairs(given, setting)
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name) or not value.isascii() or not value.isprintable():
            raise ConfigurationError(
                f"{setting} holds what cannot be a header",
                setting=setting,
                fix="write name=value, comma separated, URL-encoded",
            )
    return headers


def _pairs(given: str, setting: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for part in filter(None, map(str.strip, given.split(","))):
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            # Not shown: it may be a secret.
            raise ConfigurationError(
                f"{setting} is not `name=value`, comma separated", setting=setting, fix="URL-encode commas"
            )
        pairs[unquote(name.strip())] = unquote(value.strip())
    return pairs
