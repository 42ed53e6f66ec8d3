"""A group becomes an entry of the taxonomy, and nothing is overwritten."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from agents.taxonomy import load_taxonomy
from streams.core.errors import ConfigurationError
from streams.quality.discovery.entry import entry_of, entry_text, made_label

TAXONOMY = Path(__file__).resolve().parents[5] / "taxonomy.yaml"
GROUP: dict[str, Any] = {
    "id": "0a1b2c3d",
    "examples": [{"row_id": str(n), "text": f"симка не работает {n}: что делать?"} for n in range(6)],
}
FOUND = {"groups": [GROUP]}


def test_the_taxonomy_with_the_entry_is_a_new_file(tmp_path: Path) -> None:
    out = tmp_path / "new.yaml"
    made = made_label(FOUND, "0a1b2c3d", "sim_broken", "Симка", taxonomy=TAXONOMY, out=out)
    known, new = load_taxonomy(TAXONOMY), load_taxonomy(out)
    assert new.domains[:-1] == known.domains
    entry = new.domains[-1]
    assert (entry.name, entry.title, len(entry.examples)) == ("sim_broken", "Симка", 4)
    assert "симка не работает 0" in entry.description
    assert made["replay"] == f"labelstream replay --from-table --version sim_broken-1 --taxonomy {out}"
    assert yaml.safe_load(made["yaml"]) == json.loads(json.dumps([made["entry"]]))
    assert made["rows"] == [one["row_id"] for one in GROUP["examples"][:4]]
    with pytest.raises(ConfigurationError, match="cannot be written"):
        made_label(FOUND, "0a1b2c3d", "sim_broken", taxonomy=TAXONOMY, out=out)


@pytest.mark.parametrize(
    ("group", "name", "match"),
    [
        ("ffffffff", "sim", "no group ffffffff"),
        ("0a1b2c3d", "симка", "no name of a label"),
        ("0a1b2c3d", "delivery", "has a label delivery"),
    ],
)
def test_what_cannot_be_is_refused(group: str, name: str, match: str) -> None:
    with pytest.raises(ConfigurationError, match=match):
        made_label(FOUND, group, name, taxonomy=TAXONOMY)


def test_texts_with_yaml_in_them_stay_texts() -> None:
    group = {"examples": [{"row_id": "1", "text": "- name: &a *b\n'\"{x}"}]}
    assert yaml.safe_load(entry_text(entry_of(group, "x")))[0]["examples"] == ["- name: &a *b\n'\"{x}"]
