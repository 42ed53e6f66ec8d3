"""Who asks: API keys, compared as digests in constant time, and the rules for a service without any."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from ipaddress import ip_address
from urllib.parse import urlsplit

from connectors.api.problems import Problem
from streams.api_keys import ApiKey

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
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
    """Lets requests in, or says why not.

    ``reads_by_post``: paths that change nothing though they are posted to.
    """

    def __init__(self, keys: Sequence[ApiKey], reads_by_post: Iterable[str] = ()) -> None:
        self._keys = tuple(keys)
        self._reads_by_post = frozenset(reads_by_post)

    @property
    def asks_for_keys(self) -> bool:
        """False: everybody on this machine may do everything."""
        return bool(self._keys)

    def client(self, method: str, path: str, headers: Mapping[str, str]) -> str | None:
        """The name of the key's owner; None where no key is asked for.

        ``headers``: by names in lower case.

        Raises:
            Problem: 401 without a known key, 403 for what it does not allow, or from a foreign web page.
        """
        if method not in _READS:
            _refuse_foreign_pages(headers)
        if path in OPEN_PATHS:
            return None
        if not self._keys:
            # A web page whose name was made to mean this machine still says its own name.
            host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
            if not is_loopback(host):
                raise Problem(403, "without API_KEYS this service is for this machine only", code="not-local")
            return None
        owner = self._owner(headers)
        if owner is None:
            raise Problem(
                401,
                "a key is needed: Authorization: Bearer KEY, or X-API-Key: KEY",
                code="no-key",
                headers={"WWW-Authenticate": 'Bearer realm="labelstream"'},
            )
        if method not in _READS and path not in self._reads_by_post and owner.scope != "write":
            raise Problem(403, "this key may read only", code="read-only-key")
        return owner.name

    def _owner(self, headers: Mapping[str, str]) -> ApiKey | None:
        """Whose the key is. Of two that are sent, both have to be his."""
        presented: list[str] = []
        if (authorization := headers.get("authorization")) is not None:
            scheme, _, key = authorization.partition(" ")
            presented.append(key.strip() if scheme.lower() == "bearer" else "")
        if (key := headers.get("x-api-key")) is not None:
            presented.append(key.strip())
        owners = [self._owner_of(key) for key in presented] or [None]
        return owners[0] if all(owner is owners[0] for owner in owners) else None

    def _owner_of(self, presented: str) -> ApiKey | None:
        # As it was sent: headers are bytes, told here as latin-1.
        digest = sha256(presented.encode("latin-1", "replace")).digest()
        found = None
        for key in self._keys:  # all of them, so that time tells nothing
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found


def _refuse_foreign_pages(headers: Mapping[str, str]) -> None:
    """A browser says from which page a request comes; programs do not."""
    origin = headers.get("origin")
    if origin is not None:
        foreign = urlsplit(origin).netloc != headers.get("host", "")
    else:
        foreign = headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
    if foreign:
        raise Problem(403, "web pages of other origins may change nothing here", code="foreign-origin")
