"""A version calibrated by drawn rows: from the tables to the versions topic, and to what is published."""

from __future__ import annotations

import pytest

from connectors.clickhouse.queries.label_versions import register_version
from connectors.kafka.admin import Admin
from connectors.kafka.connection import connection
from streams.core.background import in_background
from streams.core.errors import RefusedError
from streams.versions.calibrate import calibrate
from streams.versions.registry import follow_versions, read_versions
from streams.versions.topic import KnownVersions
from tests.integration.connectors.clickhouse.engine import Database
from tests.stack import SharedStack, fresh_name
from tests.waiting import eventually


@pytest.fixture
async def database(tables: Database, shared: SharedStack) -> Database:
    client, found = tables
    broker = shared.kafka().address
    assert broker
    kafka = {"kafka_bootstrap_servers": broker, "topic_prefix": fresh_name("scale")}
    settings = found.model_copy(update={**kafka, "topic_partitions": 1})
    await Admin(connection(settings)).create_topics(settings)
    await register_version(client, settings, version="v1", model="m")
    return client, settings


async def label(database: Database, rows: int, *, human: bool, calibration: int | None = None) -> None:
    """Six of ten labels are right; the model says 0.9 and 0.06."""
    client, settings = database
    columns, values = "confidence, alternatives", "0.9, [('b', 0.06)]"
    if calibration is not None:
        columns, values = f"{columns}, confidence_raw, calibration", f"0.6, [('b', 0.2)], 0.9, {calibration}"
    if human:
        columns, values = "drawn_by, draw_probability", "'audit', 0.01"
    given, version, model = ("if(number % 10 < 6, 'a', 'b')", "human", "human:anna")
    if not human:
        given, version, model = ("'a'", "v1", "m")
    await client.command(
        f"INSERT INTO {settings.result_database}.logs_labeled\n"
        f"    (row_id, text, created_at, label, label_version, model, labeled_at, {columns})\n"
        f"SELECT toString(number), 'x', toDateTime64('2026-03-01', 6, 'UTC'), {given}, '{version}',\n"
        f"    '{model}', now64(6), {values} FROM numbers({rows})"
    )


async def test_drawn_rows_calibrate_a_version_once(database: Database) -> None:
    _, settings = database
    await label(database, 300, human=False)
    await label(database, 150, human=True)
    with pytest.raises(RefusedError, match="label 50 more"):
        await calibrate(settings, None)
    with pytest.raises(RefusedError, match="v9"):
        await calibrate(settings, "v9")
    await label(database, 300, human=True)
    found = await calibrate(settings, None)
    assert found is not None
    assert (found["version"], found["method"], found["generation"], found["rows"]) == (
        "v1",
        "temperature",
        1,
        300,
    )
    assert found["published"]
    assert found["log_loss"] < found["log_loss_raw"]

    known = await read_versions(settings)
    scale = known.calibration_of("v1")
    assert scale is not None
    assert scale.apply(0.9, (("b", 0.06),))[0] == pytest.approx(0.6, abs=0.01)
    followed = KnownVersions()
    following = in_background(follow_versions(lambda: settings, followed), "versions")
    await eventually(lambda: followed.calibration_of("v1") == scale, "the calibration")
    following.cancel()
    again = await calibrate(settings, "v1")
    assert again is not None
    assert (again["generation"], again["published"]) == (1, False)

    assert await calibrate(settings, "v1", growth=1.25) is None

    # Labels that went through it are fitted by what the model had reported.
    await label(database, 300, human=False, calibration=1)
    after = await calibrate(settings, "v1")
    assert after is not None
    assert after["method"] == "temperature"
    assert after["log_loss_raw"] == pytest.approx(found["log_loss_raw"])
