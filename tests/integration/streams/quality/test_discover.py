"""What is new is found in the tables, and can be made a label."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from connectors.clickhouse.queries.label_versions import register_version
from streams.quality.discovery.discover import discover
from tests.integration.connectors.clickhouse.engine import Database
from tests.unit.streams.quality.discovery.test_groups import HARD, KNOWN, LOST, SIM, texts

NOW = datetime.now(UTC).replace(microsecond=0)


async def test_a_new_topic_is_the_first_group(tables: Database) -> None:
    client, settings = tables
    assert (await discover(client, settings))["groups"] == []
    await register_version(client, settings, version="v1", model="m")
    new = texts(SIM, LOST, doubtful=True, before=0)
    rows = []
    for days, some in ((1, KNOWN), (4, KNOWN), (1, HARD), (4, HARD), (2, new)):
        for number, one in enumerate(some):
            at = int((NOW - timedelta(days=days, seconds=number)).timestamp())
            label = "other" if some is new and number % 2 else one.label
            # Half of the new rows are sure of being "other", the rest is unsure.
            confidence = 0.99 if label == "other" else one.confidence
            rows.append(f"('{len(rows)}', '{one.text}', {at}, '{label}', 'v1', {confidence})")
    person = f"('person', 'сим карта', {int(NOW.timestamp())}, 'other', 'human', NULL)"
    await client.command(
        f"INSERT INTO {settings.result_database}.logs_labeled\n"
        "    (row_id, text, created_at, label, label_version, confidence, model, labeled_at)\n"
        "SELECT id, text, fromUnixTimestamp(at), label, version, sure, 'm', now64(6) FROM VALUES(\n"
        "    'id String, text String, at UInt32, label String, version String, sure Nullable(Float64)',\n"
        f"    {', '.join([*rows, person])}\n)"
    )
    found = await discover(client, settings)
    assert found["rows"] == len(KNOWN) + len(HARD) + len(new)
    assert found["doubtful"] == len(HARD) + len(new)
    first = found["groups"][0]
    assert all("сим" in one["text"] for one in first["examples"])
    assert (first["before"], first["growth"]) == (0, None)
    assert set(first["labels"]) == {"delivery", "other"}
    # Of a part of the time.
    assert (await discover(client, settings, days=1.5))["rows"] == len(KNOWN) + len(HARD)
