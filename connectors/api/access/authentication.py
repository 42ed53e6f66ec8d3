"""Authentication: API keys, compared as digests in constant time, and the rules for a service without
keys.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from ipaddress import ip_address
from urllib.parse import urlsplit

from connectors.api.access.sessions import CSRF_HEADER, Sessions, session_in
from connectors.api.problems import Problem
from streams.core.api_keys import ApiKey, Scope

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
# The page's files hold no data. Signing in counts as a request, so guessing a key is slow.
PAGE_PATH, ASSETS, SESSION_PATH = "/", "/assets/", "/session"
REVIEW = "/review/"
_READS = frozenset({"GET", "HEAD", "OPTIONS"})


def is_loopback(host: str) -> bool:
    """Whether ``host``, a name or an address, is this machine only."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Gate:
    """Lets requests in, or refuses them with a reason.

    ``reads_by_post``: paths that change nothing although their method is POST. ``sessions``: of people who
    signed in on the page with a key.
    """

    def __init__(
        self, keys: Sequence[ApiKey], reads_by_post: Iterable[str] = (), sessions: Sessions | None = None
    ) -> None:
        self._keys = tuple(keys)
        self._sessions = sessions
        self._reads_by_post = frozenset(reads_by_post)

    @property
    def asks_for_keys(self) -> bool:
        """False: everybody on this machine may do everything."""
        return bool(self._keys)

    def client(self, method: str, path: str, headers: Mapping[str, str]) -> ApiKey | None:
        """The key's owner; None if no keys are configured.

        ``headers``: by lower-case names.

        Raises:
            Problem: 401 without a known key, 403 for what the key does not allow, or from a foreign web page.
        """
        if method not in _READS:
            _refuse_foreign_pages(headers)
        if path in OPEN_PATHS:
            return None
        if not self._keys:
            # A web page whose host name was made to resolve to this machine still sends its own name.
            host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
            if not is_loopback(host):
                raise Problem(403, "without API_KEYS this service is for this machine only", code="not-local")
            return None
        if _is_page(method, path):
            return None
        owner = self._owner(method, headers)
        if owner is None:
            raise Problem(
                401,
                "a key is needed: Authorization: Bearer KEY, or X-API-Key: KEY",
                code="no-key",
                headers={"WWW-Authenticate": 'Bearer realm="labelstream"'},
            )
        if not owner.may(needed := self._needed(method, path)):
            raise Problem(
                403,
                f"this key has the scope {owner.scope}, and {needed} is needed",
                code="read-only-key" if owner.scope == "read" else "missing-scope",
                scope=owner.scope,
                needed=needed,
            )
        return owner

    def _needed(self, method: str, path: str) -> Scope:
        if method in _READS or path in self._reads_by_post:
            return "read"
        return "review" if path.startswith(REVIEW) else "write"

    def _owner(self, method: str, headers: Mapping[str, str]) -> ApiKey | None:
        """The owner of the key. If two keys are sent, both must be the same owner's. Without a key, the
        session's owner.
        """
        presented: list[str] = []
        if (authorization := headers.get("authorization")) is not None:
            scheme, _, key = authorization.partition(" ")
            presented.append(key.strip() if scheme.lower() == "bearer" else "")
        if (plain := headers.get("x-api-key")) is not None:
            presented.append(plain.strip())
        if not presented:
            return self._signed_in(method, headers)
        owners = [self.owner_of(key) for key in presented]
        return owners[0] if all(owner is owners[0] for owner in owners) else None

    def _signed_in(self, method: str, headers: Mapping[str, str]) -> ApiKey | None:
        held = session_in(headers.get("cookie", ""))
        owner = self._sessions.owner(held) if self._sessions is not None and held else None
        if owner is None or self._sessions is None:
            return None
        if method not in _READS and not self._sessions.csrf_fits(held, headers.get(CSRF_HEADER, "")):
            raise Problem(403, "the page's token is missing or of another session", code="no-csrf-token")
        return owner

    def owner_of(self, presented: str) -> ApiKey | None:
        """The owner of the key; ``presented``: the header's bytes as latin-1."""
        # As it was sent: the bytes of a header are decoded as latin-1.
        digest = sha256(presented.encode("latin-1", "replace")).digest()
        found = None
        for key in self._keys:  # compare with all of them, so that the time reveals nothing
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found


def _is_page(method: str, path: str) -> bool:
    if path == SESSION_PATH:
        return method in ("GET", "POST", "DELETE")
    return method in ("GET", "HEAD") and (path == PAGE_PATH or path.startswith(ASSETS))


def _refuse_foreign_pages(headers: Mapping[str, str]) -> None:
    """A browser says from which page a request comes; programs do not."""
    origin = headers.get("origin")
    if origin is not None:
        foreign = urlsplit(origin).netloc != headers.get("host", "")
    else:
        foreign = headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
    if foreign:
        raise Problem(403, "web pages of other origins may change nothing here", code="foreign-origin")
