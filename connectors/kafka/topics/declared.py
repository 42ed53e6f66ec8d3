"""How the topics are to be set up, and what differs on those that exist."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from aiokafka.admin import NewTopic

from streams.core.errors import ConfigurationError
from streams.core.settings import Settings
from streams.core.topics import Topic

# Of each partition, where there are so many brokers.
DEFAULT_REPLICAS = 3
_DAY_MS = 24 * 3600 * 1000
# As the producers compress (`sending.batch_sizes.new_batch`): so the brokers keep what they get.
_COMPRESSION = "zstd"
# Kafka's defaults, where the brokers do not tell a topic's value.
_WEEK_MS = 7 * _DAY_MS


@dataclass(frozen=True)
class FoundTopic:
    """A topic as the brokers describe it. ``replicas``, ``in_sync``: of the partition that has fewest."""

    name: str
    topic_id: UUID
    partitions: int
    config: Mapping[str, str]
    replicas: int = 1
    in_sync: int = 1


@dataclass(frozen=True)
class SettingChange:
    """A setting of a topic that differs from what is declared. ``kept``: why `init` leaves it; else empty."""

    topic: str
    name: str
    before: str
    after: str
    kept: str = ""

    def command(self) -> str:
        """What makes the change by Kafka's own tool."""
        return f"kafka-configs --alter --topic {self.topic} --add-config {self.name}={self.after}"

    def told(self) -> dict[str, str]:
        """For a log line."""
        about = {"topic": self.topic, "setting": self.name, "before": self.before, "after": self.after}
        return about | ({"why": self.kept} if self.kept else {})


@dataclass(frozen=True)
class TopicPlan:
    """The topics that are missing, and the settings that differ."""

    made: tuple[NewTopic, ...]
    changes: tuple[SettingChange, ...]

    @property
    def altered(self) -> dict[str, dict[str, str]]:
        """The settings that are changed, by topic."""
        found: dict[str, dict[str, str]] = {}
        for change in self.changes:
            if not change.kept:
                found.setdefault(change.topic, {})[change.name] = change.after
        return found

    def statements(self) -> list[str]:
        """All of it as commands of Kafka's own tools, for people to read; what is left alone is a comment."""
        made = [
            f"kafka-topics --create --topic {topic.name} --partitions {topic.num_partitions} "
            f"--replication-factor {topic.replication_factor}"
            + "".join(f" --config {name}={value}" for name, value in topic.topic_configs.items())
            for topic in self.made
        ]
        changed = [
            f"# {change.name}={change.before} stays, {change.kept}: {change.command()}"
            if change.kept
            else change.command()
            for change in self.changes
        ]
        return made + changed


def topic_config(topic: Topic, settings: Settings, replicas: int) -> dict[str, str]:
    """The configuration for creating ``topic``."""
    in_sync = settings.topic_min_insync_replicas or max(1, replicas - 1)
    config = {"min.insync.replicas": str(min(in_sync, replicas)), "compression.type": _COMPRESSION}
    if topic.compacted:
        return config | {"cleanup.policy": "compact", "segment.ms": str(_DAY_MS)}
    return config | {
        "cleanup.policy": "delete",
        "retention.ms": str(settings.topic_retention_days * _DAY_MS),
    }


def differences(found: FoundTopic, topic: Topic, settings: Settings) -> list[SettingChange]:
    """What to change on a topic that exists. Nothing is changed by which messages could be lost: a retention
    is not shortened, and the clean-up policy stays, see `refuse_other_config`.
    """
    replicas = found.replicas
    if settings.topic_min_insync_replicas is None:
        # A partition that is moved to other brokers has the old and the new replicas for a while.
        replicas = min(replicas, settings.topic_replication_factor or DEFAULT_REPLICAS)
    wanted = topic_config(topic, settings, replicas)

    def change(name: str, before: object, kept: str = "") -> SettingChange:
        return SettingChange(topic.name, name, str(before), wanted[name], kept)

    changes = []
    compression = found.config.get("compression.type", "producer")
    if compression not in ("producer", _COMPRESSION):
        # Brokers would undo the compression of each batch.
        changes.append(change("compression.type", compression))
    in_sync = int(found.config.get("min.insync.replicas", 1))
    if in_sync < int(wanted["min.insync.replicas"]):
        few = found.in_sync < int(wanted["min.insync.replicas"])
        why = f"only {found.in_sync} are in sync now, and nothing could be written" if few else ""
        changes.append(change("min.insync.replicas", in_sync, why))
    if found.config.get("cleanup.policy", wanted["cleanup.policy"]) != wanted["cleanup.policy"]:
        return changes
    if topic.compacted:
        segment = int(found.config.get("segment.ms", _WEEK_MS))
        if segment > int(wanted["segment.ms"]):
            changes.append(change("segment.ms", segment))
        return changes
    # Otherwise it is what somebody found right for the disks.
    if "topic_retention_days" in settings.model_fields_set:
        retention, days = int(found.config.get("retention.ms", _WEEK_MS)), int(wanted["retention.ms"])
        if 0 <= retention < days:
            changes.append(change("retention.ms", retention))
        elif retention != days:
            changes.append(change("retention.ms", retention, "to shorten it would delete messages"))
    return changes


def refuse_other_count(partitions: int, topic: Topic, settings: Settings) -> None:
    """A row's partition is a hash modulo the count. With another count equal texts would be in different
    partitions, and a step would look for its output in the wrong one.

    Raises:
        ConfigurationError: the count differs from the settings.
    """
    wanted = topic.partitions or settings.topic_partitions
    if partitions != wanted:
        raise ConfigurationError(
            f"topic {topic.name} has {partitions} partitions, TOPIC_PARTITIONS says {wanted}",
            setting="TOPIC_PARTITIONS",
            fix=f"set TOPIC_PARTITIONS={partitions}, or use another TOPIC_PREFIX: the count is fixed once "
            "the topics are made",
        )


def refuse_other_config(found: FoundTopic, topic: Topic) -> None:
    """A compacted topic would lose messages that replays and late subscribers need.

    Raises:
        ConfigurationError: the topic has another clean-up policy than it should.
    """
    wanted = "compact" if topic.compacted else "delete"
    policy = found.config.get("cleanup.policy", wanted)
    if policy != wanted:
        raise ConfigurationError(
            f"topic {topic.name} has cleanup.policy={policy}, it must be {wanted}",
            setting="TOPIC_PREFIX",
            fix=f"set it with Kafka's own tools: kafka-configs --alter --add-config cleanup.policy={wanted}",
        )
