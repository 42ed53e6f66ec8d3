"""A label version: its parts and its name."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field

from streams.core.errors import ConfigurationError
from streams.core.records import Outgoing
from streams.core.topics import Topics

HUMAN = "human"


# The end of the model's name in a human label that was taken back.
UNDONE = ":undo"


class LabelSpec(BaseModel):
    """Everything that determines a version's labels. Never changed under the same name.

    ``mode``: `json` or `choice`. ``prompts``: the templates by name, with `{domains}` where the labels are
    inserted. ``taxonomy``: the whole taxonomy.
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
        """Eight hexadecimal digits that change with any change of the prompts."""
        return _digest(self.prompts)

    @property
    def taxonomy_digest(self) -> str:
        """Eight hexadecimal digits that change with any change of the taxonomy."""
        return _digest(self.taxonomy)

    def same_as(self, other: LabelSpec) -> bool:
        """Whether both give the same labels."""
        return self.difference(other) == ""

    def difference(self, other: LabelSpec) -> str:
        """The differences, for a person; empty if there are none."""
        parts = ("model", "mode", "prompts", "taxonomy")
        return ", ".join(part for part in parts if getattr(self, part) != getattr(other, part))

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits that change with anything that determines the labels."""
        parts = {"model": self.model, "mode": self.mode, "prompts": self.prompts, "taxonomy": self.taxonomy}
        return _digest(parts)

    def message(self, topics: Topics) -> Outgoing:
        """For the versions topic."""
        return Outgoing(topics.versions, 0, self.version.encode(), orjson.dumps(self.model_dump()))


def checked_prompt(template: str, where: str) -> str:
    """``template``, if it is a valid prompt.

    Raises:
        ConfigurationError: it has no `{domains}`, or other single braces.
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
