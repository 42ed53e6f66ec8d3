"""A model that answers by script, for tests of the steps."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agents.taxonomy import Taxonomy, load_taxonomy
from streams.core.messages import Labeled, Row

NOW = datetime(2026, 1, 1, tzinfo=UTC)
REPOSITORY = Path(__file__).resolve().parents[3]


@dataclass
class Token:
    """A token and what might have stood there, by probability."""

    token: str
    chances: dict[str, float] = field(default_factory=dict)

    @property
    def logprob(self) -> float:
        return math.log(self.chances.get(self.token, 1.0))

    @property
    def top(self) -> tuple[tuple[str, float], ...]:
        ordered = sorted(self.chances.items(), key=lambda item: -item[1])
        return tuple((text, math.log(chance) if chance else -9999.0) for text, chance in ordered)


@dataclass
class Said:
    """A completion."""

    text: str
    tokens: Sequence[Token] | None = None
    finish_reason: str = "stop"


Script = Callable[[dict[str, Any]], Said | str]


class FakeModel:
    """``script`` gets what was asked and answers, or raises."""

    def __init__(self, script: Script, name: str = "mistral-7b", *, holds: bool = True) -> None:
        self.script = script
        self.name = name
        self.holds = holds
        self.asked: list[dict[str, Any]] = []

    async def model(self) -> str:
        return self.name

    async def holds_choice(self, options: Sequence[str]) -> bool:
        return self.holds

    async def complete(self, messages: Sequence[dict[str, str]], **asked: Any) -> Said:
        check = asked.pop("check", None)
        self.asked.append({"messages": list(messages), **asked})
        said = self.script(self.asked[-1])
        answer = Said(said) if isinstance(said, str) else said
        if check is not None:
            check(answer)
        return answer


class NoMemory:
    """Every question is asked."""

    async def get(self, key: bytes, ask: Callable[[], Awaitable[bytes]]) -> tuple[bytes, bool]:
        return await ask(), False

    def known(self, key: bytes) -> bytes | None:
        return None


def row(text: str = "где мой заказ", row_id: str = "1") -> Row:
    return Row(row_id=row_id, text=text, created_at=NOW, polled_at=NOW, user_id="u", source_domain="d")


def labeled(text: str = "где мой заказ") -> Labeled:
    return Labeled(**row(text).model_dump(), label="delivery", label_version="v", model="m", labeled_at=NOW)


def taxonomy(*names: str) -> Taxonomy:
    """The shipped one, or one of these names."""
    if not names:
        return load_taxonomy(REPOSITORY / "taxonomy.yaml")
    return Taxonomy.model_validate(
        {"domains": [{"name": name, "title": name, "description": f"о {name}"} for name in names]}
    )
