"""Sessions of people who signed in on the page: a signed cookie that expires, and a token for their changes.

Nothing is stored here: every process with the same secret recognises a session. A session ends when its key
is removed from `API_KEYS`.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from streams.core.api_keys import ApiKey

SESSION_SECONDS = 12 * 3600
COOKIE = "labelstream_session"
CSRF_HEADER = "x-csrf-token"


class Sessions:
    """``secret``: the same in each process that serves the same people; None: a secret of this
    process alone.
    """

    def __init__(
        self, keys: Sequence[ApiKey], secret: str | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._keys = {key.name: key for key in keys}
        self._secret = secret.encode() if secret else secrets.token_bytes(32)
        self._clock = clock

    def begin(self, key: ApiKey) -> str:
        """A session for the owner of ``key``, as the value of the cookie."""
        until = int(self._clock()) + SESSION_SECONDS
        body = f"{key.name}|{until}|{secrets.token_hex(8)}"
        return f"{body}|{self._sign('session', body, key.digest)}"

    def owner(self, session: str) -> ApiKey | None:
        """The owner of the session; None if it is invalid or has ended."""
        body, _, signature = session.rpartition("|")
        name, _, rest = body.partition("|")
        until, _, _ = rest.partition("|")
        key = self._keys.get(name)
        if key is None or not (until.isascii() and until.isdigit()):
            return None
        if not hmac.compare_digest(signature.encode(), self._sign("session", body, key.digest).encode()):
            return None
        return key if int(until[:15]) > self._clock() else None

    def csrf(self, session: str) -> str:
        """The CSRF token of ``session``; of an empty one if no keys are configured."""
        return self._sign("csrf", session, b"")

    def csrf_fits(self, session: str, token: str) -> bool:
        """Whether ``token`` is the one of ``session``."""
        return hmac.compare_digest(self.csrf(session).encode(), token.encode("utf-8", "replace"))

    def _sign(self, what: str, body: str, extra: bytes) -> str:
        return hmac.new(
            self._secret, what.encode() + b"\0" + extra + b"\0" + body.encode(), sha256
        ).hexdigest()


def session_in(cookies: str) -> str:
    """The session in a Cookie header; empty for none."""
    try:
        found = SimpleCookie(cookies).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found is not None else ""


def set_cookie(session: str, *, secure: bool) -> str:
    """The Set-Cookie header that begins ``session``; an empty one ends it."""
    age = SESSION_SECONDS if session else 0
    return f'{COOKIE}="{session}"; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict' + (
        "; Secure" if secure else ""
    )


def is_secure(scheme: str, origin: str) -> bool:
    """Whether the browser uses https, also if a proxy before this service ends TLS: its origin says so."""
    return scheme == "https" or urlsplit(origin).scheme == "https"
