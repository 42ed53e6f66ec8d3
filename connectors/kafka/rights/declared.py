"""The rights in Kafka that roles and commands need, by the names of Kafka's access lists.

The table in the guide, what `labelstream check` compares and what the tests grant are made from it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from streams.core.topics import ConsumerGroup, Topics

Resource = Literal["topic", "group"]

READ, WRITE, CREATE = "Read", "Write", "Create"
DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS = "Describe", "DescribeConfigs", "AlterConfigs"
COMMANDS, INIT = "commands", "init"


class Right(NamedTuple):
    """One operation on one resource."""

    resource: Resource
    name: str
    operation: str


def rights_of(topics: Topics) -> dict[str, tuple[Right, ...]]:
    """What each role, the commands and `init` need: nothing on the cluster, and no transactional id.

    Read and Write contain Describe, AlterConfigs contains DescribeConfigs. Every role asks for all topics and
    how long they keep messages before it begins. With PRIVACY_SECRET each also reads its check values on the
    cursor's topic, and notes them there.
    """
    groups, every = topics.groups, tuple(topic.name for topic in topics.all())
    rows, replay, labeled, shadow = topics.rows, topics.replay, topics.labeled, topics.shadow
    augmented, letters = topics.augmented, topics.dead_letter
    cursor, versions, review = topics.cursor, topics.versions, topics.review

    def rights(read: Iterable[str], write: Iterable[str], *joined: ConsumerGroup) -> tuple[Right, ...]:
        """With the groups that it joins; the pipeline's it looks at."""
        found = [Right("topic", name, READ) for name in read]
        found += [Right("topic", name, WRITE) for name in write]
        found += [Right("topic", name, one) for name in every for one in (DESCRIBE, DESCRIBE_CONFIGS)]
        found += [Right("group", group.name, READ) for group in joined]
        found += [Right("group", one.name, DESCRIBE) for one in groups.pipeline if one not in joined]
        return tuple(found)

    # Whoever runs replays, backfills and files.
    job_reads = (rows, replay, labeled, shadow, augmented, letters, cursor, versions)
    job_writes = (replay, letters, cursor, versions)
    return {
        # It runs canaries too, and publishes calibrations.
        "poller": rights(
            (rows, replay, labeled, shadow, letters, cursor, versions),
            (rows, replay, letters, cursor, versions),
            groups.poller,
            groups.canary,
        ),
        "agents": rights(
            (rows, replay, labeled, shadow, augmented, letters, cursor, versions),
            (labeled, shadow, augmented, letters, cursor, versions),
            groups.agents,
        ),
        "sink": rights(
            (rows, replay, labeled, shadow, augmented, letters, cursor, versions),
            (letters, cursor),
            groups.sink,
        ),
        "api": rights((*job_reads, review), (*job_writes, labeled, review), groups.replay),
        "fetcher": rights(job_reads, job_writes, groups.fetcher, groups.replay),
        "trainer": rights(job_reads, job_writes, groups.trainer, groups.replay),
        COMMANDS: rights(every, (*job_writes, labeled, review), groups.replay, groups.canary),
        INIT: tuple(
            Right("topic", name, one)
            for name in every
            for one in (CREATE, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS)
        ),
    }


def needed(topics: Topics, role: str = "") -> dict[Right, tuple[str, ...]]:
    """Every right, with who needs it. Describe is left out where a role of the same user reads or writes.
    ``role``: only its rights.
    """
    found: dict[Right, tuple[str, ...]] = {}
    for who, rights in rights_of(topics).items():
        if role not in ("", who):
            continue
        for right in rights:
            found[right] = (*found.get(right, ()), who)
    used = {(right.resource, right.name) for right in found if right.operation in (READ, WRITE)}
    return {
        right: who
        for right, who in found.items()
        if right.operation != DESCRIBE or (right.resource, right.name) not in used
    }


def describe_rights(rights: Iterable[Right]) -> str:
    """For a sentence: ``Read, Write on topic esk.rows, Read on group esk-sink``."""
    return "; ".join(
        f"{', '.join(operations)} on {resource}{'s' * (len(names) > 1)} {', '.join(names)}"
        for resource, operations, names in _grouped(rights)
    )


def acl_commands(principal: str, rights: Iterable[Right]) -> list[str]:
    """The commands of Kafka's own tool that grant ``rights``."""
    return [
        " ".join(
            [
                f"kafka-acls --add --allow-principal {principal}",
                *(f"--operation {operation}" for operation in operations),
                *(f"--{resource} {name}" for name in names),
            ]
        )
        for resource, operations, names in _grouped(rights)
    ]


def _grouped(rights: Iterable[Right]) -> list[tuple[Resource, tuple[str, ...], list[str]]]:
    """Names with the same operations together."""
    of: dict[tuple[Resource, str], list[str]] = {}
    for right in rights:
        of.setdefault((right.resource, right.name), []).append(right.operation)
    found: dict[tuple[Resource, tuple[str, ...]], list[str]] = {}
    for (resource, name), operations in of.items():
        found.setdefault((resource, tuple(operations)), []).append(name)
    return [(resource, operations, names) for (resource, operations), names in found.items()]
