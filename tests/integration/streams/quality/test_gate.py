"""Promotions through the gate, on the real engine."""

from __future__ import annotations

import pytest

from connectors.clickhouse.queries.audit_log import read_audit
from connectors.clickhouse.queries.label_versions import list_versions, register_version
from streams.core.errors import GateError
from streams.core.label_version import LabelSpec
from streams.versions.commands import promote, retire
from streams.versions.registry import register
from tests.integration.connectors.clickhouse.engine import Database

ROWS = 400


@pytest.fixture
async def database(tables: Database) -> Database:
    for version, status in (("v1", "promoted"), ("v2", "trial"), ("v3", "trial")):
        await register_version(*tables, version=version, model="m", status=status)
    return tables


async def label(database: Database, version: str, wrong: int, *, model: str = "m") -> None:
    """Labels of all rows under ``version``, the first ``wrong`` of them wrong."""
    client, settings = database
    await client.command(
        f"INSERT INTO {settings.result_database}.logs_labeled\n"
        "    (row_id, text, created_at, label, label_version, model, labeled_at)\n"
        "SELECT toString(number), 'x', toDateTime64('2026-03-01', 6, 'UTC') + number % 7,\n"
        f"    if(number < {wrong}, 'b', 'a'), '{version}', '{model}', now64(6)\nFROM numbers({ROWS})"
    )


async def current(database: Database) -> str | None:
    return next((one.version for one in await list_versions(*database) if one.current), None)


async def test_only_what_is_better_or_not_worse_becomes_the_current_version(database: Database) -> None:
    client, settings = database
    await label(database, "v1", 20)
    await label(database, "v2", 0)
    await label(database, "v3", 40)

    ungated = await promote(settings, "v2")
    assert (ungated["verdict"]["answer"], ungated["current"], ungated["forced"]) == (None, "v2", False)
    assert "no person has labelled rows yet" in ungated["verdict"]["text"]
    assert (await promote(settings, "v1"))["verdict"]["text"] == ""  # it was current before

    await label(database, "human", 0, model="human:anna")
    with pytest.raises(GateError, match=r"^worse") as refused:
        await promote(settings, "v3", audited_as="boris")
    assert (refused.value.verdict["answer"], refused.value.verdict["compared_with"]) == ("worse", "v1")
    assert await current(database) == "v1"
    assert await read_audit(client, settings, 10) == []

    await register_version(client, settings, version="v4", model="m", status="trial")
    with pytest.raises(GateError, match="none of 400 gold rows"):
        await promote(settings, "v4")
    await label(database, "v4", 0)
    passed = await promote(settings, "v4")
    assert (passed["verdict"]["answer"], passed["current"]) == ("better", "v4")
    assert passed["verdict"]["difference"] == pytest.approx(0.05)

    forced = await promote(settings, "v3", force=True, audited_as="boris")
    assert (forced["current"], forced["forced"], forced["verdict"]["answer"]) == ("v3", True, "worse")
    (entry,) = await read_audit(client, settings, 10)
    assert (entry.who, entry.action, entry.target) == ("boris", "version-promote", "v3")
    assert entry.detail.startswith("forced: worse")

    for name in ("v1", "v2", "v3", "v4"):
        await retire(settings, name)
    await register_version(client, settings, version="v5", model="m", status="trial")
    await label(database, "v5", 60)
    with pytest.raises(GateError, match=r"^worse") as refused:
        await promote(settings, "v5")
    assert (refused.value.verdict["compared_with"], await current(database)) == ("v3", None)


async def test_a_changed_live_version_is_a_trial_where_gold_exists(database: Database) -> None:
    client, settings = database
    spec = LabelSpec(version="v5", model="m", mode="json", prompts={}, taxonomy={})

    async def state(name: str) -> tuple[str, bool]:
        return next((one.status, one.live) for one in await list_versions(*database) if one.version == name)

    # Nobody has labelled rows: the trial of a replay is promoted when live rows are labelled under it.
    await register(client, settings, spec.model_copy(update={"version": "v2"}), live=True)
    assert (await state("v2"), await current(database)) == (("promoted", False), "v2")
    await label(database, "v2", 0)
    await label(database, "human", 0, model="human:anna")
    for _ in range(2):  # the worker starts again
        await register(client, settings, spec, live=True)
        assert (await state("v5"), await current(database)) == (("trial", True), "v2")
    # What was current before is no trial, nor what a replay begins.
    await register(client, settings, spec.model_copy(update={"version": "v1"}), live=True)
    await register(client, settings, spec.model_copy(update={"version": "v3"}), live=False)
    assert (await state("v1"), await state("v3")) == (("promoted", False), ("trial", False))
    await register(client, settings, spec.model_copy(update={"version": "v3"}), live=True)
    assert (await state("v3"), await current(database)) == (("trial", True), "v2")
    await promote(settings, "v3", force=True)
    assert await state("v3") == ("promoted", False)
