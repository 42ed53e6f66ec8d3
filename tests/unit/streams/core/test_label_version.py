"""The prompt of a label version."""

from __future__ import annotations

import pytest

from streams.core.errors import ConfigurationError
from streams.core.label_version import checked_prompt


@pytest.mark.parametrize("text", ["no place", "{domains} {", "{domains} {other}", '{domains} {"label": 1}'])
def test_a_prompt_that_cannot_be_one_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        checked_prompt(text, "p.txt")


def test_a_prompt_keeps_its_doubled_braces() -> None:
    assert checked_prompt('{domains} {{"label": 1}}', "p.txt") == '{domains} {{"label": 1}}'
