"""The versions topic: how each label version asks, and which replays were dropped.

Compacted. The key of a version is its name; that of a dropped replay is ``job/<id>``, so that its messages
which are still on the replay topic, or come from there, are skipped.
"""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
from pydantic import ValidationError

from streams.core.codec import REPLAY_JOB
from streams.core.errors import ConfigurationError
from streams.core.label_version import HUMAN, LabelSpec
from streams.core.records import Outgoing, Record
from streams.core.topics import Topics

_JOB = "job/"


def dropped_message(topics: Topics, job: str, version: str) -> Outgoing:
    """Records that the results of replay ``job``, which made ``version``, are no longer wanted."""
    value = orjson.dumps({"job": job, "version": version, "dropped_at": datetime.now(UTC)})
    return Outgoing(topics.versions, 0, f"{_JOB}{job}".encode(), value)


class KnownVersions:
    """The content of the versions topic so far."""

    def __init__(self) -> None:
        self.specs: dict[str, LabelSpec] = {}
        self.dropped: dict[str, str] = {}  # job -> version

    def learn(self, record: Record) -> None:
        """Read a message of the topic, in order. Messages of other programs are ignored."""
        key = (record.key or b"").decode("utf-8", "replace")
        if key.startswith(_JOB):
            try:
                self.dropped[key.removeprefix(_JOB)] = str(orjson.loads(record.value or b"{}")["version"])
            except (orjson.JSONDecodeError, KeyError, TypeError):
                self.dropped.pop(key.removeprefix(_JOB), None)
            return
        try:
            spec = LabelSpec.model_validate_json(record.value or b"")
        except ValidationError:
            return
        if spec.version == key:
            self.specs[key] = spec

    def unwanted(self, record: Record) -> bool:
        """Whether ``record`` belongs to a dropped replay."""
        job = record.header(REPLAY_JOB)
        return job is not None and job.decode("utf-8", "replace") in self.dropped

    def usable(self, version: str) -> None:
        """Refuse a name whose rows were removed: the workers remember these rows as done under it.

        Raises:
            ConfigurationError: a replay of that version was dropped, or it is the version of people.
        """
        if version == HUMAN:
            raise ConfigurationError(
                f"{HUMAN} is the version of the labels that people give",
                setting="--version",
                fix="choose another name",
            )
        if version in self.dropped.values():
            raise ConfigurationError(
                f"a replay of label version {version} was dropped",
                setting="--version",
                fix="choose another name: the rows that were dropped cannot come back under this one",
            )
