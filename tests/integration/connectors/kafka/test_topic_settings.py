"""Settings of topics that exist: what `init` changes on a real broker, and what it leaves."""

from __future__ import annotations

from dataclasses import replace

from connectors.kafka.admin import Admin
from connectors.kafka.connection import connection
from streams.core.settings import Settings
from tests.kafka_tools import make_topic
from tests.stack import SharedStack, fresh_name
from tests.waiting import eventually


async def test_what_differs_is_changed_and_what_people_set_stays(shared: SharedStack) -> None:
    settings = Settings(
        kafka_bootstrap_servers=shared.kafka().address,
        topic_prefix=fresh_name("settings"),
        topic_partitions=1,
        topic_retention_days=2,
    )
    name = f"{settings.topic_prefix}.labeled"
    mine = {"retention.ms": "1000", "compression.type": "gzip", "max.message.bytes": "2000000"}
    await make_topic(connection(settings), name, 1, mine)

    ours = Admin(connection(settings))
    planned = await ours.plan_topics(settings)
    assert name not in [topic.name for topic in planned.made]
    assert planned.altered == {name: {"compression.type": "zstd", "retention.ms": str(2 * 86_400_000)}}
    assert (await ours.find([name]))[name].config["retention.ms"] == "1000"

    done = await ours.create_topics(settings)
    assert done.altered == planned.altered

    async def nothing_is_left() -> bool:
        again = await ours.plan_topics(settings)
        return again == replace(again, made=(), changes=())

    await eventually(nothing_is_left, "the broker has what its controller has noted")
    config = (await ours.find([name]))[name].config
    assert config.items() >= (mine | planned.altered[name]).items()
