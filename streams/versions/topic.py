"""What the versions topic carries: how each label version asks, and which replays are not wanted any more.

Compacted. A version stands under its name; a replay that was dropped under ``job/<id>``, so that what of it
is still on the replay topic, or comes back from there, is left out.
"""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streams.core.codec import REPLAY_JOB
from streams.core.errors import ConfigurationError
from streams.core.label_version import HUMAN
from streams.core.records import Outgoing, Record
from streams.core.topics import Topics

_JOB = "job/"


class LabelSpec(BaseModel):
    """How a label version asks: all that decides a label. Never changed under one name.

    ``mode``: `json` or `choice`. ``prompts``: the templates by name, with `{domains}` where the labels
    stand. ``taxonomy``: the whole of it.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: str = Field(min_length=1)
    model: str
    mode: str
    prompts: dict[str, str]
    taxonomy: dict[str, Any]
    noted_at: datetime = Field(default_factory=lambda: datetime.now(UTC))

    @property
    def prompt_digest(self) -> str:
        """Eight hexadecimal digits that change with any word of the prompts."""
        return _digest(self.prompts)

    @property
    def taxonomy_digest(self) -> str:
        """Eight hexadecimal digits that change with any word of the taxonomy."""
        return _digest(self.taxonomy)

    def same_as(self, other: LabelSpec) -> bool:
        """Whether both ask in the same way."""
        return self.difference(other) == ""

    def difference(self, other: LabelSpec) -> str:
        """In what they differ, for a person; empty for nothing."""
        parts = ("model", "mode", "prompts", "taxonomy")
        return ", ".join(part for part in parts if getattr(self, part) != getattr(other, part))

    def message(self, topics: Topics) -> Outgoing:
        """For the versions topic."""
        return Outgoing(topics.versions, 0, self.version.encode(), orjson.dumps(self.model_dump()))


def dropped_message(topics: Topics, job: str, version: str) -> Outgoing:
    """Says that nothing of replay ``job``, which made ``version``, is wanted any more."""
    value = orjson.dumps({"job": job, "version": version, "dropped_at": datetime.now(UTC)})
    return Outgoing(topics.versions, 0, f"{_JOB}{job}".encode(), value)


class KnownVersions:
    """What the versions topic has told so far."""

    def __init__(self) -> None:
        self.specs: dict[str, LabelSpec] = {}
        self.dropped: dict[str, str] = {}  # job -> version

    def learn(self, record: Record) -> None:
        """From a message of the topic, in order. What somebody else wrote there is left out."""
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
        """Whether ``record`` belongs to a replay that was dropped."""
        job = record.header(REPLAY_JOB)
        return job is not None and job.decode("utf-8", "replace") in self.dropped

    def usable(self, version: str) -> None:
        """Refuse a name whose rows were taken away: under it, what is remembered as done is not there.

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


def checked_prompt(template: str, where: str) -> str:
    """``template``, if it can be a prompt.

    Raises:
        ConfigurationError: no `{domains}` in it, or other single braces.
    """
    try:
        if "{domains}" in template and template.format(domains=""):
            return template
    except (KeyError, IndexError, ValueError) as error:
        raise ConfigurationError(
            f"the prompt {where} has a brace that stands alone: {error}",
            setting="--prompt",
            fix="write {{ and }} for braces",
        ) from error
    raise ConfigurationError(
        f"the prompt {where} has no place for the labels",
        setting="--prompt",
        fix="put {domains} where they go",
    )


def _digest(value: dict[str, Any]) -> str:
    return blake2b(orjson.dumps(value, option=orjson.OPT_SORT_KEYS), digest_size=4).hexdigest()
