"""A door without processes, for tests: a text with the word `unmaskable` cannot be masked."""

from __future__ import annotations

from collections.abc import Sequence

from streams.privacy.door import Door
from streams.privacy.entities import Entity
from streams.privacy.masking import Masker
from streams.privacy.pool import MaskedText, MaskingPool
from streams.privacy.pseudonyms import Pseudonyms
from streams.privacy.secret import parse_generations

SECRET = "1:a secret of the first generation"
ROTATED = f"2:a secret of the second generation,{SECRET}"
UNMASKABLE = "unmaskable"
# Without names: those need a model.
ENTITIES = frozenset(Entity) - {Entity.NAME}


class InlinePool(MaskingPool):
    """Masks in this process."""

    def __init__(self, entities: frozenset[Entity] = ENTITIES) -> None:
        self._masker = Masker(entities)

    async def start(self) -> None:
        return None

    async def mask(self, texts: Sequence[str]) -> list[MaskedText | None]:
        found = [None if UNMASKABLE in text else self._masker.mask(text) for text in texts]
        return [None if one is None else MaskedText(one.text, one.counts) for one in found]

    async def close(self) -> None:
        return None


def make_door(secret: str = SECRET) -> Door:
    return Door(InlinePool(), Pseudonyms(parse_generations(secret)))
