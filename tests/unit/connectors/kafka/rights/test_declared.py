"""What roles and commands need in Kafka, and how it is told."""

from __future__ import annotations

from connectors.kafka.rights.declared import (
    ALTER_CONFIGS,
    CREATE,
    DESCRIBE,
    DESCRIBE_CONFIGS,
    INIT,
    READ,
    WRITE,
    Right,
    acl_commands,
    describe_rights,
    needed,
    rights_of,
)
from streams.core.topics import Topics

TOPICS = Topics("own")


def test_of_one_role_nothing_of_the_others_is_needed() -> None:
    wanted = needed(TOPICS, "sink")
    assert set(wanted) <= set(rights_of(TOPICS)["sink"])
    assert Right("topic", TOPICS.labeled, READ) in wanted
    assert Right("topic", TOPICS.labeled, WRITE) not in wanted
    assert Right("group", TOPICS.groups.poller.name, READ) not in wanted


def test_whoever_joins_a_group_may_read_its_topics() -> None:
    every = rights_of(TOPICS)
    for role in ("poller", "agents", "sink", "fetcher", "trainer"):
        group = getattr(TOPICS.groups, role)
        assert Right("group", group.name, READ) in every[role]
        assert {Right("topic", topic, READ) for topic in group.topics} <= set(every[role])


def test_each_role_may_compare_the_secret_of_pseudonyms_before_it_begins() -> None:
    cursor = {Right("topic", TOPICS.cursor, READ), Right("topic", TOPICS.cursor, WRITE)}
    for who, rights in rights_of(TOPICS).items():
        assert who == INIT or cursor <= set(rights), who


def test_one_user_needs_each_right_once_and_none_that_another_contains() -> None:
    wanted = needed(TOPICS)
    names = {topic.name for topic in TOPICS.all()}
    for name in names:
        operations = {right.operation for right in wanted if right[:2] == ("topic", name)}
        assert operations == {READ, WRITE, CREATE, DESCRIBE_CONFIGS, ALTER_CONFIGS}
        assert wanted[Right("topic", name, CREATE)] == (INIT,)
    groups = {right.name: right.operation for right in wanted if right.resource == "group"}
    assert set(groups.values()) == {READ}
    assert len(groups) == 7
    assert DESCRIBE not in {right.operation for right in wanted}


def test_rights_that_are_alike_are_told_and_granted_together() -> None:
    rights = [
        Right("topic", "own.rows", READ),
        Right("topic", "own.labeled", READ),
        Right("topic", "own.rows", WRITE),
        Right("group", "own-sink", READ),
        Right("topic", "own.labeled", WRITE),
    ]
    assert describe_rights(rights) == "Read, Write on topics own.rows, own.labeled; Read on group own-sink"
    assert acl_commands("User:me", rights) == [
        "kafka-acls --add --allow-principal User:me --operation Read --operation Write "
        "--topic own.rows --topic own.labeled",
        "kafka-acls --add --allow-principal User:me --operation Read --group own-sink",
    ]
