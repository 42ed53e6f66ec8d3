"""What a topic is made with, and what is changed on one that was made in another way."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from connectors.kafka.topics.declared import FoundTopic, SettingChange, TopicPlan, differences, topic_config
from streams.core.settings import Settings
from streams.core.topics import Topics

TOPICS = Topics("esk")
LABELED = next(topic for topic in TOPICS.all() if topic.name == TOPICS.labeled)
CURSOR = next(topic for topic in TOPICS.all() if topic.name == TOPICS.cursor)
DAY = 86_400_000
WEEK = Settings(topic_retention_days=7)


def found(replicas: int = 1, **config: str) -> FoundTopic:
    values = {key.replace("_", "."): one for key, one in config.items()}
    config = {"retention.ms": str(7 * DAY), **values}
    return FoundTopic("esk.labeled", UUID(int=1), 8, config, replicas, replicas)


def changed(topic: FoundTopic, settings: Settings = WEEK) -> dict[str, str]:
    return TopicPlan((), tuple(differences(topic, LABELED, settings))).altered.get("esk.labeled", {})


def test_nothing_is_changed_on_what_was_made_here() -> None:
    for topic in TOPICS.all():
        config = topic_config(topic, Settings(), 3)
        assert not differences(FoundTopic(topic.name, UUID(int=1), 8, config, 3), topic, Settings())


@pytest.mark.parametrize("kind", ["uncompressed", "gzip", "lz4", "snappy"])
def test_a_topic_that_is_compressed_again_is_changed(kind: str) -> None:
    assert changed(found(compression_type=kind)) == {"compression.type": "zstd"}


def test_one_of_an_older_release_is_as_good() -> None:
    """Kafka's default keeps what the producers made."""
    assert not changed(found(compression_type="producer"))
    assert not changed(found())


def test_a_retention_is_lengthened_when_asked_and_never_shortened() -> None:
    assert changed(found(retention_ms=str(DAY))) == {"retention.ms": str(7 * DAY)}
    for hand_made in (DAY, 30 * DAY):  # by somebody who did not set TOPIC_RETENTION_DAYS
        assert not differences(found(retention_ms=str(hand_made)), LABELED, Settings())
    for longer in (8 * DAY, -1):
        (left,) = differences(found(retention_ms=str(longer)), LABELED, WEEK)
        assert left.kept == "to shorten it would delete messages"
        assert "# retention.ms" in TopicPlan((), (left,)).statements()[0]


def test_copies_that_must_have_a_message_grow_and_never_shrink() -> None:
    assert changed(found(3, min_insync_replicas="1")) == {"min.insync.replicas": "2"}
    assert not changed(found(3, min_insync_replicas="3"))
    assert not changed(found(1))


def test_a_partition_that_moves_has_too_many_copies_and_one_that_has_lost_some_too_few() -> None:
    assert changed(found(6, min_insync_replicas="1")) == {"min.insync.replicas": "2"}
    (left,) = differences(replace(found(3), in_sync=1), LABELED, WEEK)
    assert "only 1 are in sync" in left.kept


def test_the_clean_up_policy_is_never_changed_and_what_belongs_to_it_neither() -> None:
    assert not differences(found(cleanup_policy="compact", retention_ms="1"), LABELED, WEEK)
    topic = FoundTopic("esk.cursor", UUID(int=1), 1, {"cleanup.policy": "compact"})
    assert [change.name for change in differences(topic, CURSOR, WEEK)] == ["segment.ms"]


def test_a_change_is_shown_as_the_command_that_makes_it() -> None:
    change = SettingChange("esk.labeled", "retention.ms", "1", "2")
    assert TopicPlan((), (change,)).statements() == [
        "kafka-configs --alter --topic esk.labeled --add-config retention.ms=2"
    ]
