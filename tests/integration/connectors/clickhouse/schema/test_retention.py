"""RESULT_RETENTION_DAYS on a real engine: what is old goes, and all that is counted agrees with it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from connectors.clickhouse.queries.audit_log import write_audit
from connectors.clickhouse.queries.review import review_counts
from connectors.clickhouse.schema.database import create_tables
from connectors.clickhouse.schema.retention import changing_statements, other_retention
from streams.ports.audit import AuditEntry
from tests.integration.connectors.clickhouse.engine import Database, run_until_stored, sink_for
from tests.unit.connectors.clickhouse.sink.fakes import L0, TOPICS, FakeInput, FakeKafka, labeled


async def test_what_is_old_is_forgotten_and_what_is_new_stays(database: Database) -> None:
    client, settings = database
    name = settings.result_database
    kafka = FakeKafka()
    for number in range(10):
        kafka.publish(labeled(number), TOPICS.labeled)
    await run_until_stored(sink_for(client, settings, kafka), FakeInput(kafka, [L0], {}))
    old = ", ".join(
        "now64(3) - INTERVAL 41 DAY AS _stored_at" if column == "_stored_at" else column
        for (column,) in await client.rows(
            f"SELECT name FROM system.columns WHERE database = '{name}' AND table = 'logs_labeled'"
        )
    )
    await client.command(
        f"INSERT INTO {name}.logs_labeled\n"
        "SELECT * REPLACE ('old' AS label_version, _offset + 100 AS _offset)\n"
        f"FROM (SELECT {old} FROM {name}.logs_labeled)"
    )
    kept = settings.model_copy(update={"result_retention_days": 40})
    assert len(await other_retention(client, kept)) == 5
    now = datetime.now(UTC)
    for days in (41, 1):
        at = now - timedelta(days=days)
        entry = AuditEntry(at=at, who="anna", action="look-row", target=f"row {days}")
        await write_audit(client, settings, [entry])
    await create_tables(client, kept)
    assert await other_retention(client, kept) == []
    await client.command(f"OPTIMIZE TABLE {name}.logs_labeled FINAL")
    await client.command(f"OPTIMIZE TABLE {name}.audit_log FINAL")
    audited = await client.rows(f"SELECT who, target FROM {name}.audit_log ORDER BY at")
    assert audited == [("anna", ""), ("anna", "row 1")]
    # From the projection, which a merge makes anew.
    versions = f"SELECT toString(label_version), count() FROM {name}.logs_labeled GROUP BY label_version"
    assert await client.rows(versions) == [("v1", 10)]
    assert (await review_counts(client, kept)).waiting == 10
    ((places,),) = await client.rows(f"SELECT count(DISTINCT _offset) FROM {name}.logs_labeled")
    assert int(places) == 10
    for statement in changing_statements(settings, await other_retention(client, settings)):
        await client.command(statement)
    assert await other_retention(client, settings) == []
