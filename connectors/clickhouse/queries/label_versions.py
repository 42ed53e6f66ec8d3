"""Label versions: which one is a row's current label.

`label_versions` is a log: each change is one inserted line with the version's whole new state, so that
a promotion is one atomic statement, can be undone by another, and stays on record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from connectors.clickhouse.client.catch_up import catch_up
from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.errors import SETTING
from connectors.clickhouse.client.sql import result_table, tuple_of
from connectors.clickhouse.schema.projections import DISTINCT_ROWS
from connectors.clickhouse.schema.tables import LABELED, VERSIONS
from streams.core.errors import RefusedError, UnavailableError
from streams.core.settings import Settings

PROMOTED, TRIAL, RETIRED = "promoted", "trial", "retired"
_STATE = ("model", "prompt", "taxonomy", "mode", "toString(status)", "promoted_at", "live")


@dataclass(frozen=True)
class LabelVersion:
    """A version as it stands, or stood after one change of its ``history``.

    ``prompt`` and ``taxonomy`` are digests. ``current``: the newest promoted one, whose label a row has
    that was labelled under several. ``rows``: how many rows have a label of it, exact up to some thousands,
    then within two percent; None where not counted. ``live``: a trial under which live rows are labelled; a
    row that has no other label is shown with it.
    """

    version: str
    model: str
    prompt: str
    taxonomy: str
    mode: str
    status: str
    promoted_at: datetime | None
    created_at: datetime
    changed_at: datetime
    live: bool = False
    current: bool = False
    rows: int | None = None


async def list_versions(
    client: ClickHouseClient, settings: Settings, *, counted: bool = False
) -> list[LabelVersion]:
    """All versions: promoted ones first, the newest promoted at their head, then trials that label live rows,
    the others by name.

    ``counted``: with `rows`.

    Raises:
        UnavailableError: ClickHouse does not answer.
        ConfigurationError: no such table; `labelstream init` makes it.
    """
    state = ", ".join(_STATE)
    rows = await client.rows(
        f"SELECT version, argMax(tuple({state}), changed_at), min(created_at), max(changed_at)\n"
        f"FROM {_table(settings)} GROUP BY version"
    )
    found = [_version(version, state, created, changed) for version, state, created, changed in rows]
    # As the current view ranks them; a row stored twice counts once. The projection `label_places` has it.
    counting = (
        f"SELECT toString(label_version), {DISTINCT_ROWS}\n"
        f"FROM {result_table(settings, LABELED)} GROUP BY label_version"
    )
    counts = dict(await client.rows(counting)) if counted else {}
    promoted = sorted(
        (one for one in found if one.promoted_at and one.status == PROMOTED),
        key=lambda one: (one.promoted_at, one.version),
        reverse=True,
    )
    others = sorted(
        (one for one in found if one not in promoted), key=lambda one: (not one.live, one.version)
    )
    return [
        replace(
            one,
            current=one is promoted[0] if promoted else False,
            rows=int(counts.get(one.version, 0)) if counted else None,
        )
        for one in (*promoted, *others)
    ]


def current_version(known: Sequence[LabelVersion]) -> LabelVersion | None:
    """The current one of `list_versions`; None: there is none."""
    return next((one for one in known if one.current), None)


async def name_of_current(client: ClickHouseClient, settings: Settings) -> str:
    """The name of the current version.

    Raises:
        RefusedError: there is none.
        UnavailableError, ConfigurationError: as `list_versions`.
    """
    found = current_version(await list_versions(client, settings))
    if found is None:
        raise RefusedError("there is no current label version", reason="unknown-version")
    return found.version


def version_to_beat(known: Sequence[LabelVersion]) -> LabelVersion | None:
    """The version with which a new one is compared: the current one. Where all were retired, the one that was
    current last: its retirement says nothing for another version. None: none was ever promoted.
    """
    if (current := current_version(known)) is not None:
        return current
    former = {(one.promoted_at, one.version): one for one in known if one.promoted_at is not None}
    return former[max(former)] if former else None


async def version_history(client: ClickHouseClient, settings: Settings, version: str) -> list[LabelVersion]:
    """Every change of ``version``, the oldest first.

    Raises:
        RefusedError: there is no such version.
        UnavailableError, ConfigurationError: as `list_versions`.
    """
    rows = await client.rows(
        f"SELECT tuple({', '.join(_STATE)}), created_at, changed_at FROM {_table(settings)}\n"
        "WHERE version = {version:String} ORDER BY changed_at",
        {"version": version},
    )
    if not rows:
        raise _unknown(version)
    return [_version(version, state, created, changed) for state, created, changed in rows]


async def register_version(
    client: ClickHouseClient,
    settings: Settings,
    *,
    version: str,
    model: str,
    prompt: str = "",
    taxonomy: str = "",
    mode: str | None = None,
    status: str = PROMOTED,
    live: bool = False,
) -> None:
    """Note ``version`` unless it is known.

    A known version keeps its status: a worker that starts again undoes no promotion. Only a trial that is
    registered as promoted becomes so. ``live``, with a trial: live rows are labelled under it.
    ``prompt`` and ``taxonomy`` are digests; ``mode`` is that of the settings if not given.

    Raises:
        UnavailableError: also when another replica answered, which has not received the version yet. Then
            this can be repeated.
        ConfigurationError: as `list_versions`.
    """
    table = _table(settings)
    await catch_up(client, settings.result_database, VERSIONS)
    await client.command(
        f"INSERT INTO {table} (version, model, prompt, taxonomy, mode, status, live, promoted_at)\n"
        "SELECT {version:String}, {model:String}, {prompt:String}, {taxonomy:String}, {mode:String}, "
        "{status:String}, {live:Bool},\n"
        "    if({status:String} = 'promoted', now64(6), toDateTime64(0, 6, 'UTC'))\n"
        f"WHERE {{version:String}} NOT IN (SELECT version FROM {table})",
        {
            "version": version,
            "model": model,
            "prompt": prompt,
            "taxonomy": taxonomy,
            "mode": mode or settings.llm_labeler_mode,
            "status": status,
            "live": live,
        },
    )
    try:
        known = (await version_history(client, settings, version))[-1]
        if known.status != TRIAL:
            return
        if status == PROMOTED:
            await promote_version(client, settings, version)
        elif live and not known.live:
            await _change(client, settings, version, TRIAL, live=True)
    except RefusedError as unseen:
        raise UnavailableError(
            f"ClickHouse does not show the new label version {version} yet", setting=SETTING
        ) from unseen


async def promote_version(client: ClickHouseClient, settings: Settings, version: str) -> None:
    """Make ``version`` the newest promoted one: from now on the current label of every row that has it.

    Promoting the former version again undoes it.

    Raises:
        RefusedError: there is no such version.
    """
    await _change(client, settings, version, PROMOTED)


async def retire_version(client: ClickHouseClient, settings: Settings, version: str) -> None:
    """Show ``version`` no more; rows that have another are shown with that one.

    Raises:
        RefusedError: there is no such version.
    """
    await _change(client, settings, version, RETIRED)


async def _change(
    client: ClickHouseClient, settings: Settings, version: str, status: str, *, live: bool = False
) -> None:
    table = _table(settings)
    await catch_up(client, settings.result_database, VERSIONS)
    known = await client.rows(
        f"SELECT 1 FROM {table} WHERE version = {{version:String}} LIMIT 1", {"version": version}
    )
    if not known:
        raise _unknown(version)
    # Always later than what is there, also after the server's clock was set back.
    newest = f"greatest(now64(6), addMicroseconds((SELECT max(promoted_at) FROM {table}), 1))"
    await client.command(
        f"INSERT INTO {table}\n"
        "    (version, model, prompt, taxonomy, mode, status, live, promoted_at, created_at, changed_at)\n"
        "SELECT version, argMax(model, changed_at), argMax(prompt, changed_at),\n"
        "    argMax(taxonomy, changed_at), argMax(mode, changed_at), {status:String}, {live:Bool},\n"
        f"    {newest if status == PROMOTED else 'argMax(promoted_at, changed_at)'}, min(created_at),\n"
        "    greatest(now64(6), addMicroseconds(max(changed_at), 1))\n"
        f"FROM {table} WHERE version = {{version:String}} GROUP BY version",
        {"version": version, "status": status, "live": live},
    )


def _table(settings: Settings) -> str:
    return result_table(settings, VERSIONS)


def _unknown(version: str) -> RefusedError:
    return RefusedError(f"there is no label version {version}", reason="unknown-version")


def _version(version: str, state: Any, created_at: datetime, changed_at: datetime) -> LabelVersion:
    model, prompt, taxonomy, mode, status, promoted_at, live = tuple_of(state)
    moment = _in_utc(promoted_at)
    return LabelVersion(
        version=version,
        model=model,
        prompt=prompt,
        taxonomy=taxonomy,
        mode=mode,
        status=status,
        promoted_at=moment if moment.year > 1970 else None,  # never promoted
        created_at=_in_utc(created_at),
        changed_at=_in_utc(changed_at),
        live=bool(live) and status == TRIAL,
    )


def _in_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
