"""Keyed pseudonyms of users and sessions, `p<generation>:<32 hexadecimal digits>`.

The same id has the same pseudonym in every process with the same `PRIVACY_SECRET`. Without the secret nobody
can tell whose it is, not by trying all phone numbers either. The generation stands in it, so that those of an
older secret are still found after a rotation.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from typing import Literal

from streams.core.settings import Settings
from streams.privacy.secret import SecretGeneration, parse_generations

Kind = Literal["user", "session"]
_FORM = re.compile(r"p[1-9][0-9]{0,3}:[0-9a-f]{32}")
_PURPOSES = ("user", "session", "row", "erased", "check")


class Pseudonyms:
    """Makes pseudonyms, digests of rows and hashes of erased ids. ``generations``: newest first."""

    def __init__(self, generations: Sequence[SecretGeneration]) -> None:
        # A key for each purpose: a user and a session of the same name have nothing in common.
        self._keys = {
            purpose: [(one.number, _digest(one.secret, purpose.encode())) for one in generations]
            for purpose in _PURPOSES
        }

    def pseudonym(self, kind: Kind, plain: str) -> str:
        """The pseudonym of ``plain``, of the newest generation."""
        return _pseudonym(*self._keys[kind][0], plain)

    def every_pseudonym(self, kind: Kind, plain: str) -> list[str]:
        """Those of all generations, newest first: under one of them ``plain`` may be stored."""
        return [_pseudonym(number, key, plain) for number, key in self._keys[kind]]

    @property
    def row_keys(self) -> dict[int, bytes]:
        """Keys for the digests of rows by generation, the newest first."""
        return dict(self._keys["row"])

    @property
    def checks(self) -> dict[int, bytes]:
        """By generation what tells whether two processes have the same secret, and nothing else."""
        return {number: _digest(key, b"").hex().encode() for number, key in self._keys["check"]}

    def erased(self, plain: str) -> dict[int, bytes]:
        """Keyed hashes, 32 bytes, of an id for the list of erased ones, by generation; the newest first."""
        return {number: _digest(key, _bytes(plain)) for number, key in self._keys["erased"]}


def is_pseudonym(value: str) -> bool:
    """Whether ``value`` has the form of one, which is proof only where labelstream has written it."""
    return _FORM.fullmatch(value) is not None


def pseudonyms_of(settings: Settings) -> Pseudonyms | None:
    """Those of `PRIVACY_SECRET`; None without one. It may be set although nothing is masked now.

    Raises:
        ConfigurationError: the secret has not its form.
    """
    secret = settings.privacy_secret
    return None if secret is None else Pseudonyms(parse_generations(secret.get_secret_value()))


def _pseudonym(number: int, key: bytes, plain: str) -> str:
    return f"p{number}:{_digest(key, _bytes(plain))[:16].hex()}"


def _bytes(plain: str) -> bytes:
    return plain.encode("utf-8", "surrogatepass")


def _digest(key: bytes, content: bytes) -> bytes:
    return hmac.digest(key, content, "sha256")
