"""What a row passes before it is published, where personal data is masked.

Texts are masked by worker processes (`pool.py`), ids become pseudonyms here. Whatever cannot be masked does
not pass: the caller publishes where it is, and not what it is.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

from streams.core.errors import ConfigurationError, PermanentError
from streams.core.messages import Row
from streams.core.settings import Settings
from streams.privacy.entities import Entity
from streams.privacy.pool import MaskingPool
from streams.privacy.pseudonyms import Kind, Pseudonyms, is_pseudonym, pseudonyms_of

# Of the dead letter of a row that cannot be masked.
STEP, REASON = "mask", "cannot-mask"


class PlainFields(NamedTuple):
    """What may be personal in a row: a clean text, ids, and the domain that its source noted."""

    text: str
    user: str | None
    session: str | None
    domain: str | None


class Door:
    """Masks rows. ``counts``: `texts`, `failed` and `entity:NAME`, since the process began."""

    def __init__(self, pool: MaskingPool, pseudonyms: Pseudonyms) -> None:
        self.counts: Counter[str] = Counter()
        self._pool = pool
        self._pseudonyms = pseudonyms

    @property
    def progress(self) -> int:
        """Grows with every batch of texts, also while many are being masked."""
        return self._pool.answered

    async def start(self) -> None:
        """Start what masks, to find out whether it can.

        Raises:
            ConfigurationError: a library is missing.
        """
        await self._pool.start()

    async def texts(self, texts: Sequence[str]) -> list[str | None]:
        """Each text masked; None for one that cannot be."""
        found = await self._pool.mask(texts)
        for one in found:
            self.counts["texts"] += 1
            if one is None:
                self.counts["failed"] += 1
                continue
            for entity, count in one.counts.items():
                self.counts[f"entity:{entity}"] += count
        return [None if one is None else one.text for one in found]

    async def fields(
        self, rows: Sequence[PlainFields], *, from_source: bool = True
    ) -> list[PlainFields | None]:
        """Each row masked; None for one that cannot be. ``from_source=False``: labelstream has written them,
        and their ids may be pseudonyms already."""
        texts = await self.texts([row.text for row in rows])
        names = sorted({row.domain for row in rows if row.domain})
        domains = dict(zip(names, await self.texts(names), strict=True)) if names else {}
        found: list[PlainFields | None] = []
        for row, text in zip(rows, texts, strict=True):
            domain = domains.get(row.domain or "", row.domain)
            if text is None or (domain is None and row.domain is not None):
                found.append(None)
                continue
            user = self._shown("user", row.user, from_source)
            session = self._shown("session", row.session, from_source)
            found.append(PlainFields(text, user, session, domain))
        return found

    def _shown(self, kind: Kind, id_: str | None, from_source: bool) -> str | None:
        if not id_ or (is_pseudonym(id_) and not from_source):
            return id_
        return self._pseudonyms.pseudonym(kind, id_)

    async def rows(self, rows: Sequence[Row], *, from_source: bool = True) -> list[Row | None]:
        """As `fields`, for messages."""
        plain = [PlainFields(row.text, row.user_id, row.session_id, row.source_domain) for row in rows]
        return [
            None
            if one is None
            else row.model_copy(
                update={
                    "text": one.text,
                    "user_id": one.user,
                    "session_id": one.session,
                    "source_domain": one.domain,
                }
            )
            for row, one in zip(rows, await self.fields(plain, from_source=from_source), strict=True)
        ]

    async def text(self, text: str) -> str:
        """One text masked.

        Raises:
            PermanentError: it cannot be; reason `cannot-mask`.
        """
        (found,) = await self.texts([text])
        if found is None:
            raise PermanentError("the text cannot be masked", reason=REASON)
        return found

    async def close(self) -> None:
        """Stop what masks."""
        await self._pool.close()


def entities_of(settings: Settings) -> frozenset[Entity]:
    """What `PRIVACY_ENTITIES` names.

    Raises:
        ConfigurationError: something in it is unknown, or it names nothing.
    """
    names = [name.strip() for name in settings.privacy_entities.lower().split(",") if name.strip()]
    if names == ["all"]:
        return frozenset(Entity)
    known = {entity.value for entity in Entity}
    if not names or (unknown := [name for name in names if name not in known]):
        what = f"{unknown[0]} is unknown" if names else "it names nothing"
        raise ConfigurationError(
            f"PRIVACY_ENTITIES = {settings.privacy_entities!r}: {what}",
            setting="PRIVACY_ENTITIES",
            fix=f"write `all`, or some of {', '.join(entity.value for entity in Entity)}",
        )
    return frozenset(map(Entity, names))


def privacy_of(settings: Settings) -> dict[str, Any]:
    """``mode``: `off` or `mask`; ``entities``: what is masked.

    Raises:
        ConfigurationError: as `entities_of`.
    """
    entities = entities_of(settings) if settings.privacy == "mask" else frozenset[Entity]()
    return {"mode": settings.privacy, "entities": [one.value for one in Entity if one in entities]}


def refuse_unmasked(settings: Settings, door: Door | None) -> None:
    """Raises:
    ConfigurationError: rows are to be masked, and nothing is there to mask them.
    """
    if settings.privacy == "mask" and door is None:
        raise ConfigurationError("PRIVACY is mask, and nothing masks the rows here", setting="PRIVACY")


def door_of(settings: Settings) -> Door | None:
    """The door that the settings ask for; None where nothing is masked. Nothing is started yet.

    Raises:
        ConfigurationError: PRIVACY_ENTITIES names something unknown.
    """
    pseudonyms = pseudonyms_of(settings)
    if settings.privacy == "off" or pseudonyms is None:
        return None
    return Door(MaskingPool(entities_of(settings)), pseudonyms)


@contextlib.asynccontextmanager
async def opened(settings: Settings, *, start: bool = False) -> AsyncIterator[Door | None]:
    """The door, closed at the end. ``start``: find out at once whether it can mask.

    Raises: as `door_of`, and with ``start`` as `Door.start`.
    """
    door = door_of(settings)
    try:
        if door is not None and start:
            await door.start()
        yield door
    finally:
        if door is not None:
            await door.close()


def entity_counts(counts: Counter[str]) -> dict[Entity, int]:
    """How often each entity was masked, of a door's counts."""
    return {one: counts[f"entity:{one}"] for one in Entity}
