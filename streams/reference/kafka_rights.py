"""The rights in Kafka as a page for people, made from `connectors/kafka/rights/declared.py`."""

from __future__ import annotations

from connectors.kafka.rights.declared import DESCRIBE, DESCRIBE_CONFIGS, INIT, Right, acl_commands, rights_of
from streams.core.topics import Topics


def rights_page() -> str:
    """The page: a table by role, and the commands that grant it."""
    topics = Topics()
    lines = [
        "# Rights in Kafka",
        "",
        "Made from `connectors/kafka/rights/declared.py` by `make generate`; do not edit.",
        "",
        f"With `TOPIC_PREFIX={topics.prefix}`. Nothing needs a right on the cluster or on a transactional",
        "id: the producers are idempotent, for which a right to write is enough.",
        "[Operations](../guide/operations.md#required-rights) has the short form for one user. With a user",
        "for each role, grant each its own:",
        "",
        "| Who | Topics: Read | Topics: Write | Groups: Read | Groups: Describe |",
        "|---|---|---|---|---|",
    ]
    every = rights_of(topics)
    for who, rights in every.items():
        if who != INIT:
            cells = [
                ", ".join(f"`{right.name}`" for right in rights if right[::2] == (resource, operation))
                for resource, operation in (
                    ("topic", "Read"),
                    ("topic", "Write"),
                    ("group", "Read"),
                    ("group", DESCRIBE),
                )
            ]
            lines.append(f"| {who} | {' | '.join(cells)} |")
    lines += [
        "",
        f"Each of them also needs {DESCRIBE} and {DESCRIBE_CONFIGS} on every topic: it waits until all are",
        "there, and asks how long they keep messages. `labelstream init` needs Create, Describe,",
        "DescribeConfigs and AlterConfigs on every topic.",
        "",
        "The same as commands of Kafka's own tool; add `--bootstrap-server` and `--command-config`, and",
        "replace the users' names:",
        "",
        "```",
    ]
    for who, rights in every.items():
        lines += acl_commands(f"User:{who}", _without_contained(rights))
    return "\n".join([*lines, "```", ""])


def _without_contained(rights: tuple[Right, ...]) -> list[Right]:
    """Without Describe on what is read or written: these contain it."""
    used = {right.name for right in rights if right.operation in ("Read", "Write")}
    return [right for right in rights if right.operation != DESCRIBE or right.name not in used]
