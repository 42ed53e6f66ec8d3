"""Label versions: which one is a row's current label.

`label_versions` is a log: each change is one inserted line with the version's whole new state, so that
a promotion is one atomic statement, can be undone by another, and stays on record.
"""

from __future__ import annotations

from connectors.clickhouse.client import ClickHouseClient
from connectors.clickhouse.ddl import VERSIONS, quoted
from streams.errors import RefusedError
from streams.settings import Settings

PROMOTED, TRIAL, RETIRED = "promoted", "trial", "retired"


async def register_version(
    client: ClickHouseClient,
    settings: Settings,
    *,
    version: str,
    model: str,
    prompt: str = "",
    taxonomy: str = "",
    status: str = PROMOTED,
) -> None:
    """Note ``version`` unless it is known; a live worker's counts as promoted from then on.

    A known version keeps its status: a worker that starts again undoes no promotion.
    ``prompt`` and ``taxonomy`` are digests.
    """
    table = f"{quoted(settings.result_database)}.{quoted(VERSIONS)}"
    await client.command(
        f"INSERT INTO {table} (version, model, prompt, taxonomy, mode, status, promoted_at)\n"
        "SELECT {version:String}, {model:String}, {prompt:String}, {taxonomy:String}, {mode:String}, "
        "{status:String}, if({status:String} = 'promoted', now64(6), toDateTime64(0, 6, 'UTC'))\n"
        f"WHERE {{version:String}} NOT IN (SELECT version FROM {table})",
        {
            "version": version,
            "model": model,
            "prompt": prompt,
            "taxonomy": taxonomy,
            "mode": settings.llm_labeler_mode,
            "status": status,
        },
    )


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


async def _change(client: ClickHouseClient, settings: Settings, version: str, status: str) -> None:
    table = f"{quoted(settings.result_database)}.{quoted(VERSIONS)}"
    known = await client.rows(
        f"SELECT 1 FROM {table} WHERE version = {{version:String}} LIMIT 1", {"version": version}
    )
    if not known:
        raise RefusedError(f"there is no label version {version}", reason="unknown-version")
    # Always later than what is there, also after the server's clock was set back.
    newest = f"greatest(now64(6), addMicroseconds((SELECT max(promoted_at) FROM {table}), 1))"
    await client.command(
        f"INSERT INTO {table}\n"
        "    (version, model, prompt, taxonomy, mode, status, promoted_at, created_at, changed_at)\n"
        "SELECT version, argMax(model, changed_at), argMax(prompt, changed_at),\n"
        "    argMax(taxonomy, changed_at), argMax(mode, changed_at), {status:String},\n"
        f"    {newest if status == PROMOTED else 'argMax(promoted_at, changed_at)'}, min(created_at),\n"
        "    greatest(now64(6), addMicroseconds(max(changed_at), 1))\n"
        f"FROM {table} WHERE version = {{version:String}} GROUP BY version",
        {"version": version, "status": status},
    )
