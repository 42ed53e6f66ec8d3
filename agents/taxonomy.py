"""The taxonomy: the labels that exist, and what they mean."""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from streams.core.errors import ConfigurationError

_SETTING = "TAXONOMY_PATH"
Filled = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Domain(BaseModel):
    """One label."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    title: Filled
    description: Filled
    examples: tuple[Filled, ...] = ()


class Taxonomy(BaseModel):
    """All labels, in the order of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    domains: tuple[Domain, ...] = Field(min_length=2)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(domain.name for domain in self.domains)

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits that change with any change of it."""
        return blake2b(self.model_dump_json().encode(), digest_size=4).hexdigest()

    def as_prompt(self) -> str:
        """The list of labels for a prompt."""
        return "\n".join(f"- {self.line(domain)}" for domain in self.domains)

    @staticmethod
    def line(domain: Domain) -> str:
        """One label for a prompt."""
        examples = f" Например: {'; '.join(domain.examples)}." if domain.examples else ""
        return f"{domain.name} ({domain.title}): {domain.description}{examples}"


def load_taxonomy(path: Path) -> Taxonomy:
    """The taxonomy in ``path``.

    Raises:
        ConfigurationError: names the file, the entry and the invalid field.
    """
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"the taxonomy {path} cannot be read: {error.strerror}",
            setting=_SETTING,
            fix="point TAXONOMY_PATH at the file",
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not YAML: {error}", setting=_SETTING) from error
    try:
        taxonomy = Taxonomy.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConfigurationError(f"{path}, {where}: {first['msg']}", setting=_SETTING) from error
    twice = [name for name, count in Counter(taxonomy.names).items() if count > 1]
    if twice:
        raise ConfigurationError(f"{path}: {', '.join(twice)} stands there twice", setting=_SETTING)
    return taxonomy
