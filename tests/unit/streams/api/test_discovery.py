"""What is new is shared by those who look, and looked for anew when rows were erased."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from streams.api.discovery import NewTopics
from streams.core.errors import RefusedError, UnavailableError
from streams.core.settings import Settings


class Tables:
    """Hands out one answer after the other."""

    def __init__(self, *answers: dict[str, Any] | Exception) -> None:
        self.answers = list(answers)

    async def ask(self, work: Any) -> dict[str, Any]:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_what_was_erased_is_neither_shown_nor_made_a_label() -> None:
    group = {"id": "0a", "examples": [{"row_id": "7", "text": "тайна"}]}
    tables = Tables({"groups": [group]}, UnavailableError("away"), {"groups": []})
    erased = [object()]
    topics = NewTopics(
        Settings(taxonomy_path=Path("taxonomy.yaml")), cast(Any, tables), edition=lambda: erased[-1]
    )
    assert await topics.discover(anew=False) == {"groups": [group]}
    assert await topics.discover(anew=False) == {"groups": [group]}
    erased.append(object())
    with pytest.raises(UnavailableError):
        await topics.discover(anew=False)
    with pytest.raises(RefusedError, match="no group 0a"):
        await topics.entry("0a", "secret")
    assert tables.answers == []
