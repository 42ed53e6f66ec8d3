"""A group made a label: the taxonomy's entry, and what to do with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from agents.taxonomy import Domain, Taxonomy, load_taxonomy
from streams.core.errors import ConfigurationError

_EXAMPLES, _LONGEST = 4, 200


def entry_of(
    group: Mapping[str, Any], name: str, title: str | None = None, description: str | None = None
) -> Domain:
    """The entry for a group of `discover`. What is not given is made of its texts, for a person to improve.

    Raises:
        ConfigurationError: the name is none that a label may have.
    """
    examples = [one["text"][:_LONGEST] for one in group["examples"]][:_EXAMPLES]
    try:
        return Domain(
            name=name,
            title=title or name.replace("_", " ").replace("-", " ").capitalize(),
            description=description or f"Обращения такого рода: {'; '.join(examples[:2])}.",
            examples=tuple(examples),
        )
    except ValidationError as error:
        raise ConfigurationError(
            f"{name!r} is no name of a label",
            setting="--name",
            fix="use up to 64 letters, digits, dots, hyphens and underscores of the Latin alphabet",
        ) from error


def made_label(
    found: Mapping[str, Any],
    group_id: str,
    name: str,
    title: str | None = None,
    description: str | None = None,
    *,
    taxonomy: Path,
    out: Path | None = None,
) -> dict[str, Any]:
    """For JSON: the entry of a group that `discover` has found, and the command that gives rows the label.
    ``rows``: ids of the rows whose texts it quotes.
    ``out``: a new file for the whole taxonomy with the entry.

    Raises:
        ConfigurationError: there is no such group, the name cannot be one, or the file exists.
    """
    group = next((one for one in found["groups"] if one["id"] == group_id), None)
    if group is None:
        raise ConfigurationError(
            f"there is no group {group_id} now",
            setting="--make",
            fix="labelstream discover shows those that there are",
        )
    entry = entry_of(group, name, title, description)
    whole = extended(taxonomy, entry)
    if out is not None:
        try:
            with out.open("x", encoding="utf-8") as file:
                file.write(whole)
        except OSError as error:
            raise ConfigurationError(
                f"{out} cannot be written: {error.strerror}", setting="--out", fix="name a new file"
            ) from error
    return {
        "entry": entry.model_dump(mode="json"),
        "yaml": entry_text(entry),
        "rows": [one["row_id"] for one in group["examples"][:_EXAMPLES]],
        "file": None if out is None else str(out),
        "replay": replay_command(name, out),
    }


def entry_text(entry: Domain) -> str:
    """As it stands in the taxonomy's file."""
    return _yaml([entry.model_dump(mode="json")])


def extended(taxonomy: Path, entry: Domain) -> str:
    """The taxonomy's file with the entry, at the end.

    Raises:
        ConfigurationError: the file is invalid, or has a label of that name.
    """
    known = load_taxonomy(taxonomy)
    if entry.name in known.names:
        raise ConfigurationError(
            f"{taxonomy} has a label {entry.name}", setting="--name", fix="choose another name"
        )
    return _yaml(Taxonomy(domains=(*known.domains, entry)).model_dump(mode="json"))


def replay_command(name: str, taxonomy: Path | None) -> str:
    """How rows get the new label, beside their present ones."""
    return f"labelstream replay --from-table --version {name}-1 --taxonomy {taxonomy or 'NEW.yaml'}"


def _yaml(content: object) -> str:
    text: str = yaml.safe_dump(content, allow_unicode=True, sort_keys=False, width=110)
    return text
