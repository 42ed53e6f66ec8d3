"""The commands of `labelstream cascade`: where a version's cascade stands, who labels a text and why, and to
begin anew.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from agents.proxy.classifier import Proxy
from agents.routing import decision_of
from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.queries.audit_log import write_audit
from connectors.clickhouse.queries.label_versions import name_of_current
from connectors.kafka.connection import connection
from connectors.kafka.producer import send_each
from streams.core.cascade import CascadeState, reset_message
from streams.core.errors import RefusedError
from streams.core.settings import Settings
from streams.core.text import clean
from streams.core.topics import Topics
from streams.ports.audit import AuditEntry
from streams.privacy.door import opened
from streams.versions.registry import read_versions
from streams.versions.topic import KnownVersions

_NGRAMS = 8


def state_shown(settings: Settings, known: KnownVersions, version: str) -> dict[str, Any]:
    """Where the cascade of ``version`` stands, ready for JSON.

    `coverage`: the share of distinct texts that the proxy is sure of. `calls_saved`: how many distinct texts
    the model did not have to label since the certificate, and `calls_saved_share`, which share of all; with
    CASCADE=shadow, what it would be. `bound`: how much may be lost against `certified_against`. What is not
    known is null.
    """
    state = known.cascade_of(version) or CascadeState(version=version, audit_rate=0.0)
    decides = state.decides and settings.cascade != "off"
    return {
        "version": version,
        "mode": settings.cascade,
        "generation": state.generation,
        "state": "off" if settings.cascade == "off" else state.state,
        "threshold": state.threshold if decides else None,
        "coverage": state.coverage if decides else None,
        "certified_against": state.certified_against if decides else None,
        "bound": state.bound if decides else None,
        "audit_rate": state.audit_rate if decides else None,
        "audits": state.audits,
        "asked_twice": state.asked_twice,
        "differed_twice": state.differed_twice,
        "calls_saved": _saved(settings, state) if decides else 0,
        "calls_saved_share": state.calls_saved if decides else None,
        "delay_minutes": state.delay_minutes if decides else None,
        "vetoed": list(state.vetoed) if decides else [],
        "taught": state.taught,
        "certified_at": _time(state.certified_at) if decides else None,
        "revoked_at": _time(state.revoked_at),
        "revoked_why": state.revoked_why or None,
    }


async def cascade_status(settings: Settings, version: str | None) -> dict[str, Any]:
    """As `state_shown`; of the current version, if it is None.

    Raises:
        RefusedError: there is no such version.
        UnavailableError, ConfigurationError, AccessError: of Kafka or ClickHouse.
    """
    known, version = await _of(settings, version)
    return state_shown(settings, known, version)


async def reset_cascade(
    settings: Settings, version: str | None, *, audited_as: str | None = None
) -> dict[str, Any]:
    """Have the cascade of ``version`` begin anew: its proxy labels nothing from now on, and nothing that it
    learned counts. ``audited_as``: the name that the audit log gets. Raises as `cascade_status`.
    """
    known, version = await _of(settings, version)
    wish = uuid4().hex
    await send_each(connection(settings), [reset_message(Topics(settings.topic_prefix), version, wish)])
    if audited_as is not None:
        async with ClickHouseClient.from_settings(settings) as client:
            entry = AuditEntry(
                at=datetime.now(UTC), who=audited_as, action="cascade-reset", target=version, detail=""
            )
            await write_audit(client, settings, [entry])
    known = await read_versions(settings)
    return state_shown(settings, known, version)


async def explain(settings: Settings, text: str, version: str | None) -> dict[str, Any]:
    """What the proxy of ``version`` says to ``text``, who labels it, and why, ready for JSON.

    `decision`: `proxy`; or, where the model labels it, `audit`, `unsure`, `vetoed`, `novel` or `none` (no
    proxy is certified). `ngrams`: those that speak most for the label, and how much each adds to it.

    Raises:
        RefusedError: nothing is left of ``text`` when it is cleaned; and as `cascade_status`.
    """
    known, version = await _of(settings, version)
    async with opened(settings) as door:
        cleaned = clean(text)
        if not cleaned:
            raise RefusedError("the text is empty", reason="empty-text")
        if door is not None:
            cleaned = await door.text(cleaned)
    state = known.cascade_of(version) or CascadeState(version=version)
    shown = state_shown(settings, known, version)
    told = {
        name: shown[name] for name in ("version", "mode", "generation", "state", "threshold", "audit_rate")
    }
    return {**told, "text": cleaned, **_explained(settings, known, state, cleaned)}


def _explained(settings: Settings, known: KnownVersions, state: CascadeState, text: str) -> dict[str, Any]:
    packed = known.proxy_of(state.version)
    if packed is None and state.candidate is not None:
        # Not certified yet, but it can be asked.
        candidate = known.cascades.packed(state.version, state.candidate)
        packed = None if candidate is None else (state.candidate.generation, candidate)
    if packed is None:
        return {"decision": "none", "proxy": None, "label": None, "score": None, "known": None, "ngrams": []}
    proxy = Proxy.unpack(packed[1])
    (said,) = proxy.decide([text])
    decides = state.decides and settings.cascade != "off"
    return {
        "decision": decision_of(state, text, said) if decides else "none",
        "proxy": packed[0],
        "label": said.label,
        "score": said.score,
        "known": said.known,
        "ngrams": [
            {"ngram": gram, "weight": weight} for gram, weight in proxy.spoke_for(text, said.label, _NGRAMS)
        ],
    }


async def _of(settings: Settings, version: str | None) -> tuple[KnownVersions, str]:
    known = await read_versions(settings)
    if version is None:
        async with ClickHouseClient.from_settings(settings) as client:
            version = await name_of_current(client, settings)
    elif version not in known.specs and known.cascade_of(version) is None:
        raise RefusedError(f"there is no label version {version}", reason="unknown-version")
    return known, version


def _saved(settings: Settings, state: CascadeState) -> int:
    if settings.cascade == "on":
        return state.routed
    return round(state.routable * (1 - state.audit_rate))


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat().replace("+00:00", "Z")
