"""The commands of `labelstream versions`."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Any

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.queries.audit_log import write_audit
from connectors.clickhouse.queries.label_versions import (
    LabelVersion,
    current_version,
    list_versions,
    promote_version,
    retire_version,
    version_history,
)
from connectors.clickhouse.queries.version_diff import Diff, diff_versions
from streams.core.errors import GateError, LabelstreamError
from streams.core.settings import Settings
from streams.ports.audit import AuditEntry
from streams.quality.gate import examine
from streams.versions.registry import read_versions


async def versions_known(settings: Settings) -> list[dict[str, Any]]:
    """All versions, as `list_versions`."""
    async with ClickHouseClient.from_settings(settings) as client:
        return [_told(one) for one in await list_versions(client, settings, counted=True)]


async def versions_named(settings: Settings) -> list[dict[str, Any]]:
    """The same without the number of their rows."""
    async with ClickHouseClient.from_settings(settings) as client:
        found = [_told(one) for one in await list_versions(client, settings)]
    for one in found:
        del one["rows"]
    return found


async def version_shown(settings: Settings, version: str) -> dict[str, Any]:
    """A version's state, with its ``history`` and its ``spec``: prompts and taxonomy in full; null if Kafka
    does not answer.

    Raises:
        RefusedError: there is no such version.
    """
    async with ClickHouseClient.from_settings(settings) as client:
        history = await version_history(client, settings, version)
        known = await list_versions(client, settings, counted=True)
        now = next(one for one in known if one.version == version)
    spec = None
    with contextlib.suppress(LabelstreamError):
        spec = (await read_versions(settings)).specs.get(version)
    return {
        **_told(now),
        "history": [{"changed_at": _text(one.changed_at), "status": one.status} for one in history],
        "spec": spec.model_dump(mode="json") if spec is not None else None,
    }


async def promote(
    settings: Settings, version: str, *, force: bool = False, audited_as: str | None = None
) -> dict[str, Any]:
    """Make ``version`` the current one, if the gate lets it pass.

    ``force``: also if it does not. ``audited_as``: the name under which that is written to the audit log
    here; None if the caller does it. Returns the state with the gate's `verdict`; its `text` says what was
    found.

    Raises:
        GateError: the gold rows speak against it, or are too few.
        RefusedError: there is no such version.
    """
    async with ClickHouseClient.from_settings(settings) as client:
        passage = await examine(client, settings, version)
        if not passage.passes and not force:
            raise GateError(passage.text, passage.as_dict())
        if not passage.passes and audited_as is not None:
            entry = AuditEntry(
                at=datetime.now(UTC),
                who=audited_as,
                action="version-promote",
                target=version,
                detail=f"forced: {passage.text}",
            )
            await write_audit(client, settings, [entry])
        await promote_version(client, settings, version)
        return {
            **await _state(client, settings, version),
            "verdict": passage.as_dict(),
            "forced": not passage.passes,
        }


async def retire(settings: Settings, version: str) -> dict[str, Any]:
    """No longer show ``version``.

    Raises:
        RefusedError: there is no such version.
    """
    async with ClickHouseClient.from_settings(settings) as client:
        await retire_version(client, settings, version)
        return await _state(client, settings, version)


async def compare(settings: Settings, a: str, b: str, changed: int) -> Diff:
    """As `diff_versions`."""
    async with ClickHouseClient.from_settings(settings) as client:
        return await diff_versions(client, settings, a, b, changed=changed)


async def _state(client: ClickHouseClient, settings: Settings, version: str) -> dict[str, Any]:
    found = await list_versions(client, settings)
    status = next((one.status for one in found if one.version == version), "")
    current = current_version(found)
    return {
        "version": version,
        "status": status,
        "current": None if current is None else current.version,
    }


def _told(one: LabelVersion) -> dict[str, Any]:
    return {name: _text(value) if isinstance(value, datetime) else value for name, value in vars(one).items()}


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
