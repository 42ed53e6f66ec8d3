"""What release 0.1.0 wrote can be restored as it was, and today's roles go on with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.integration.pipeline import Pipeline, keys
from tests.integration.replaying import current
from tests.unit.repo.pages import UPGRADE, labelstream_commands
from tests.upgrade import dump

RELEASE = "0.1.0"


def test_the_dump_holds_what_a_release_leaves_behind() -> None:
    found = dump.load(RELEASE)
    rows = {table.name: len(table.rows) for table in found.tables}
    assert set(rows) == {
        *("audit_log", "dead_letters", "label_versions", "logs", "logs_augmented", "logs_labeled"),
        "logs_labeled_current",
    }
    assert all(rows.values()), rows
    assert all(found.messages.values())
    # Offsets without gaps from 0, so that a restored message has the offset that it had.
    for topic in found.topics:
        counted = Counter[int]()
        for message in found.messages[topic.name]:
            assert message.offset == counted[message.partition], topic.name
            counted[message.partition] += 1
    assert {one.group for one in found.committed} == {f"{found.name}-agents", f"{found.name}-sink"}
    assert all(one.metadata for one in found.committed)
    size = sum(path.stat().st_size for path in (dump.DATA / RELEASE).rglob("*") if path.is_file())
    assert size < 300_000


async def test_a_restored_dump_is_what_was_written(make: Callable[..., Pipeline]) -> None:
    flow = make()
    restored = await dump.restore(dump.load(RELEASE), flow.kafka, flow.clickhouse_port, flow.prefix)
    found = await dump.read(flow.kafka, flow.clickhouse_port, flow.prefix, restored.note)
    assert found.tables == restored.tables
    assert found.messages == restored.messages
    assert found.committed == restored.committed
    for topic, wanted in zip(found.topics, restored.topics, strict=True):
        assert (topic.name, topic.id, topic.partitions) == (wanted.name, wanted.id, wanted.partitions)
        assert topic.settings.items() >= (wanted.settings | {"retention.ms": "-1"}).items()


async def test_today_s_roles_go_on_with_it(make: Callable[..., Pipeline], tmp_path: Path) -> None:
    saved = dump.load(RELEASE)
    taxonomy = str(dump.DATA / RELEASE / "taxonomy.yaml")
    flow = make(
        **saved.note["settings"],
        TAXONOMY_PATH=taxonomy,
        POLL_INTERVAL_SECONDS="0.3",
        TOPIC_RETENTION_DAYS="7",
    )
    await dump.restore(saved, flow.kafka, flow.clickhouse_port, flow.prefix)
    before = current(flow)
    waiting = {row_id for ids in saved.note["waiting"].values() for row_id in ids}
    assert len(waiting) == 15
    assert not waiting & set(before)

    tables = (
        f"SELECT name, create_table_query FROM system.tables WHERE database = '{flow.database}' ORDER BY name"
    )
    made_before = flow.rows(tables)
    for words in labelstream_commands(UPGRADE):  # the guide's, in its order
        done = flow.command(*words)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        if words == ["init", "--dry-run"]:
            for statement in (
                "# retention.ms=-1 stays, to shorten it would delete messages: kafka-configs --alter --topic "
                f"{flow.prefix}.rows",
                "-- migration 2: sort logs_labeled by the message's place too",
                f"EXCHANGE TABLES `{flow.database}`.`logs_labeled` AND ",
                f"CREATE TABLE IF NOT EXISTS `{flow.database}`.`erasures`",
            ):
                assert statement in done.stdout
            assert flow.rows(tables) == made_before
            flow.start("sink")  # it writes to the tables of the former release while these are migrated
    flow.start("poller", "agents")
    flow.wait(lambda: waiting <= set(current(flow)), "the rows in flight are labelled and stored")
    flow.wait(lambda: waiting <= augmented(flow), "their variants are stored")
    flow.stop()
    after = current(flow)
    assert {row_id: after[row_id] for row_id in before} == before
    assert set(after) == set(before) | waiting
    # What people said is all there, also what they corrected, and merges change nothing.
    said = [one for one in await flow.topic("labeled") if dict(one.headers)["label-version"] == b"human"]
    assert len({one.key for one in said}) < len(said)
    for table in ("logs_labeled", "logs_augmented"):
        flow.rows(f"OPTIMIZE TABLE {flow.database}.{table} FINAL")
    stored = flow.rows(
        f"SELECT _partition, _offset FROM {flow.database}.logs_labeled WHERE label_version = 'human'"
    )
    assert sorted(stored) == sorted((one.partition, one.offset) for one in said)
    assert current(flow) == after
    for topic, wanted in (("rows", None), ("labeled", b"v2"), ("augmented", b"v2")):
        messages = await flow.topic(topic)
        if wanted is not None:
            messages = [one for one in messages if dict(one.headers)["label-version"] == wanted]
        counted = Counter(key for key in keys([one for one in messages if one.key]) if key in waiting)
        assert counted == dict.fromkeys(waiting, 1), topic


def augmented(flow: Pipeline) -> set[str]:
    return {row_id for (row_id,) in flow.rows(f"SELECT row_id FROM {flow.database}.logs_augmented")}
