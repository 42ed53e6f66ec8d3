"""The taxonomy: what is wrong in the file is said with the place."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.taxonomy import load_taxonomy
from streams.core.errors import ConfigurationError
from tests.unit.agents.fakes import taxonomy

ENTRY = "- name: {name}\n  title: t\n  description: d\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        ("a: [", "is not YAML"),
        ("", "the file"),
        ("domains: []", "domains"),
        ("domains:\n" + ENTRY.format(name="a"), "domains"),
        ("domains:\n" + ENTRY.format(name="a") + ENTRY.format(name="a"), "a stands there twice"),
        ("domains:\n" + ENTRY.format(name="a") + ENTRY.format(name="with space"), "domains.1.name"),
        ("domains:\n" + ENTRY.format(name="a") + "- name: b\n  title: t\n", "domains.1.description"),
        (
            "domains:\n" + ENTRY.format(name="a") + ENTRY.format(name="b") + "  colour: red\n",
            "domains.1.colour",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "taxonomy.yaml"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=said) as caught:
        load_taxonomy(path)
    assert caught.value.setting == "TAXONOMY_PATH"
    assert str(path) in str(caught.value)


def test_the_prompt_shows_every_label_and_the_digest_every_change() -> None:
    shipped = taxonomy()
    assert [line.split(" ")[1] for line in shipped.as_prompt().split("\n")] == list(shipped.names)
    assert all(example in shipped.as_prompt() for domain in shipped.domains for example in domain.examples)
    changed = shipped.model_copy(
        update={"domains": (shipped.domains[0].model_copy(update={"title": "иначе"}), *shipped.domains[1:])}
    )
    assert len({shipped.digest, changed.digest, taxonomy("a", "b").digest, taxonomy("b", "a").digest}) == 4
