"""Which rows were erased: by hashes of users and row ids, so that the list names nobody.

An entry covers rows up to a time: a person who comes again after the erasure is new data.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Literal, NamedTuple

from streams.core.errors import ConfigurationError
from streams.privacy.pseudonyms import Pseudonyms

# What is left of an erased row: an id that says nothing but that, and this text.
ERASED_ID = "erased:"
ERASED_TEXT = "[erased]"

Kind = Literal["user", "row"]
_SALT, _GENERATION = "salt", "generation"
_KEPT_DIGESTS = 50_000
# The clocks of processes differ by less.
_FAR_SECONDS = 86_400.0


class ErasedId(NamedTuple):
    """An entry of the list. ``key``: what it was hashed with, `salt:` and that, or `generation:` and its
    number in `PRIVACY_SECRET`. ``until``: the time of the last row that it covers, microseconds since 1970.
    """

    kind: Kind
    digest: str
    key: str
    until: int


class ErasureList:
    """All that was erased. ``newest``: no row after this time is covered, but those with one of the times
    ``beyond``, which are far in the future; None where nothing was erased. So one row with an odd time does
    not make all others be looked at.
    """

    def __init__(
        self,
        entries: Iterable[ErasedId] = (),
        pseudonyms: Pseudonyms | None = None,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        """``pseudonyms``: of `PRIVACY_SECRET`. ``now``: seconds since 1970.

        Raises:
            ConfigurationError: an entry was made with a secret that is not there now.
        """
        self._until: dict[tuple[Kind, str], int] = {}
        found: set[str] = set()
        far = int((now() + _FAR_SECONDS) * 1e6)
        times, beyond = set[int](), set[int]()
        for kind, digest, key, until in entries:
            found.add(key)
            if kind == "row" and until > far:
                beyond.add(until)
            else:
                times.add(until)
            self._until[kind, digest] = max(until, self._until.get((kind, digest), until))
        keys = sorted(found)
        digests_of("", keys, pseudonyms)  # or rows that nobody recognises would come back
        self.newest: int | None = max(times, default=0 if beyond else None)
        self.beyond = frozenset(beyond)
        self._digests = lru_cache(_KEPT_DIGESTS)(lambda plain: digests_of(plain, keys, pseudonyms))

    def covers(self, row_id: str, user_id: str | None, micros: int) -> bool:
        """Whether a row of this id, user and time (microseconds since 1970) was erased."""
        if not self.may_cover(micros):
            return False
        return self._has("row", row_id, micros) or (
            user_id is not None and self._has("user", user_id, micros)
        )

    def may_cover(self, micros: int) -> bool:
        """Whether a row of this time may be covered."""
        return self.newest is not None and (micros <= self.newest or micros in self.beyond)

    def _has(self, kind: Kind, plain: str, micros: int) -> bool:
        return any(micros <= self._until.get((kind, digest), micros - 1) for digest in self._digests(plain))


def key_for(known: Iterable[ErasedId], pseudonyms: Pseudonyms | None) -> str:
    """The key of a new entry: of the newest secret, or without one the salt of the others, or a new one."""
    if pseudonyms is not None:
        return f"{_GENERATION}:{next(iter(pseudonyms.erased('')))}"
    return next((one.key for one in known if one.key.startswith(_SALT)), f"{_SALT}:{secrets.token_hex(16)}")


def digests_of(plain: str, keys: Iterable[str], pseudonyms: Pseudonyms | None) -> list[str]:
    """The digests of an id with each of ``keys``, in hexadecimal.

    Raises:
        ConfigurationError: one is of a secret that is not there.
    """
    found = []
    for key in keys:
        kind, _, value = key.partition(":")
        if kind == _SALT:
            content = plain.encode("utf-8", "surrogatepass")
            found.append(hmac.digest(bytes.fromhex(value), content, "sha256").hex())
        elif pseudonyms is None or (digest := pseudonyms.erased(plain).get(int(value))) is None:
            raise ConfigurationError(
                f"rows were erased under generation {value} of PRIVACY_SECRET, which is not set here; they "
                "would come back",
                setting="PRIVACY_SECRET",
                fix="set it, with its older generations",
            )
        else:
            found.append(digest.hex())
    return found


NOTHING = ErasureList()
