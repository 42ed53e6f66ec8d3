"""The keys of the API's clients, from `API_KEYS`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal, get_args

Scope = Literal["read", "review", "write", "admin"]
# Each includes those before it.
SCOPES: tuple[Scope, ...] = get_args(Scope)

FORM = (
    "name:scope:key, the scope read, review, write or admin, the key as it is (8 characters or more) or "
    "sha256=<its digest>"
)
_NAME = re.compile(r"^[\w.@-]{1,60}$")
_DIGEST = re.compile(r"^sha256=([0-9a-fA-F]{64})$")
_LEAST = 8


@dataclass(frozen=True)
class ApiKey:
    """A client: its name, what it may do, and the SHA-256 of its key."""

    name: str
    scope: Scope
    digest: bytes

    def may(self, scope: Scope) -> bool:
        """Whether its scope is ``scope`` or includes it."""
        return SCOPES.index(self.scope) >= SCOPES.index(scope)


def parse_keys(text: str) -> tuple[ApiKey, ...]:
    """The keys in ``text``, comma separated.

    Raises:
        ValueError: names the malformed one by its number or name; a key is never shown.
    """
    found: list[ApiKey] = []
    for number, entry in enumerate((part.strip() for part in text.split(",")), 1):
        if not entry:
            continue
        name, _, rest = entry.partition(":")
        scope, _, key = rest.partition(":")
        if not _NAME.match(name) or not rest or not key:
            raise ValueError(f"entry {number} is not {FORM}")
        if scope not in SCOPES:
            raise ValueError(f"the scope of {name} is none of {', '.join(SCOPES)}; an entry is {FORM}")
        digest = _DIGEST.match(key)
        if digest is None and (len(key) < _LEAST or key.startswith("sha256=") or not key.isprintable()):
            raise ValueError(f"the key of {name} cannot be used; an entry is {FORM}")
        made = bytes.fromhex(digest[1]) if digest else sha256(key.encode()).digest()
        if any(name == other.name or made == other.digest for other in found):
            raise ValueError(f"the name or the key of {name} is there twice")
        found.append(ApiKey(name, scope, made))
    if not found:
        raise ValueError(f"it holds no key; an entry is {FORM}")
    return tuple(found)
