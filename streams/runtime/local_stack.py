"""The local stack for the commands: runs the parts that no setting points elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from agents.taxonomy import load_taxonomy
from connectors.clickhouse.client.hosts import parse_hosts
from streams.core.errors import ConfigurationError, optional_packages
from streams.core.settings import Settings

Progress = Callable[[str], None]


def start_local_stack(
    settings: Settings,
    *,
    kafka_port: int | None = None,
    clickhouse_port: int | None = None,
    llm_port: int | None = None,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Start the parts whose addresses are not set; returns the status as `local_stack_status`.

    Raises:
        UnavailableError: a part did not come up, or Kafka could not be downloaded.
        ConfigurationError: a given port is taken, or the taxonomy is invalid.
    """
    if _needs_standin(settings):
        load_taxonomy(settings.taxonomy_path)
    _stack(settings).up(
        kafka=settings.kafka_bootstrap_servers is None,
        clickhouse=settings.clickhouse_host is None,
        llm=_needs_standin(settings),
        kafka_port=kafka_port,
        clickhouse_port=clickhouse_port,
        llm_port=llm_port,
        on_progress=on_progress,
        taxonomy=settings.taxonomy_path,
    )
    return local_stack_status(settings)


def stop_local_stack(settings: Settings, parts: Sequence[str] | None = None) -> dict[str, Any]:
    """Stop the running parts, or only these; the data stays."""
    _stack(settings).down(parts)
    return local_stack_status(settings)


def local_stack_status(settings: Settings) -> dict[str, Any]:
    """``data`` and, for each part, state, address, host, port, pid and log. A part that a setting points
    elsewhere has the state `external`.
    """
    status = _stack(settings).status()
    if settings.kafka_bootstrap_servers is not None:
        status = status.with_external("kafka", settings.kafka_bootstrap_servers)
    if settings.clickhouse_host is not None:
        hosts = parse_hosts(settings.clickhouse_host, settings.clickhouse_port)
        status = status.with_external("clickhouse", ", ".join(map(str, hosts)))
    if not _needs_standin(settings):
        status = status.with_external("llm", str(settings.llm_labeler_api_base))
    found: dict[str, Any] = status.as_dict()
    return found


def with_local_stack(settings: Settings) -> Settings:
    """The settings, with the addresses of the local stack's running parts where none are set."""
    if settings.kafka_bootstrap_servers and settings.clickhouse_host and not _needs_standin(settings):
        return settings
    try:
        status = _stack(settings).status()
    except ConfigurationError:  # it is not installed: none of it runs
        return settings
    found: dict[str, Any] = {}
    if settings.kafka_bootstrap_servers is None and status.kafka.address:
        found["kafka_bootstrap_servers"] = status.kafka.address
    if settings.clickhouse_host is None and status.clickhouse.host:
        found |= {
            "clickhouse_host": status.clickhouse.host,
            "clickhouse_port": status.clickhouse.port,
        }
    for name in ("llm_labeler_api_base", "llm_augmenter_api_base"):
        if getattr(settings, name) is None and status.llm.address:
            found[name] = status.llm.address
    return settings.model_copy(update=found)


def _needs_standin(settings: Settings) -> bool:
    return settings.llm_labeler_api_base is None or settings.llm_augmenter_api_base is None


def _stack(settings: Settings) -> Any:
    with optional_packages("the local stack"):
        from connectors.local.stack import LocalStack

    return LocalStack(settings.labelstream_data)
