"""Personal data of each kind by chance, as people write it, and the rows that carry it."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from typing import NamedTuple

from streams.privacy.entities import Entity
from tests.unit.streams.privacy.made import Maker, Random
from tests.unit.streams.privacy.made_numbers import WELL_FORMED
from tests.unit.streams.privacy.made_people import address, capitalised_name, other_case_name

CARRIERS = (
    "не приходит код, {}, помогите",
    "{} - где мой заказ",
    "добрый день, {}. верните деньги",
    "помогите: {}",
)
_IDS = "abcdefghkmnprstuvz0123456789"


class Secret(NamedTuple):
    """``value`` must not be found; ``said``: with the words around it, none for an id."""

    kind: str
    value: str
    said: str

    @property
    def text(self) -> str:
        """A query that holds it, or a clean one."""
        carrier = CARRIERS[len(self.value) % len(CARRIERS)]
        return carrier.format(self.said or "это снова я")


class Row(NamedTuple):
    """What a source has of a row."""

    text: str
    domain: str
    user: str | None
    session: str | None


def _id(random: Random) -> tuple[str, str]:
    return "", "client-" + "".join(random.choice(_IDS) for _ in range(12))


_MAKERS: dict[str, tuple[Maker, ...]] = {
    **{kind: (maker,) for kind, maker in WELL_FORMED.items()},
    Entity.NAME: (capitalised_name, other_case_name),
    Entity.ADDRESS: (address,),
    "user": (_id,),
    "session": (_id,),
}


def secrets(count: int, seed: int, kinds: Collection[str] = tuple(_MAKERS)) -> list[Secret]:
    """So many of ``kinds`` in turn, each value another one."""
    chance = random.Random(seed)
    made: dict[str, Secret] = {}
    kinds = list(kinds)
    while len(made) < count:
        kind = kinds[len(made) % len(kinds)]
        said, value = chance.choice(_MAKERS[kind])(chance)
        made.setdefault(value, Secret(kind, value, said))
    return list(made.values())


def rows_of(found: Sequence[Secret]) -> list[Row]:
    """A row for each: an id in its column; what is said in the text, and also as user, session or domain."""
    rows = []
    for at, one in enumerate(found):
        user = one.value if one.kind == "user" or (one.said and at % 3 == 0) else None
        session = one.value if one.kind == "session" or (one.said and at % 3 == 1) else None
        domain = f"тема: {one.said}" if one.said and at % 7 == 0 else "заказы"
        rows.append(Row(one.text, domain, user, session))
    return rows
