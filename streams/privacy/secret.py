"""The generations of `PRIVACY_SECRET`."""

from __future__ import annotations

import re
from typing import NamedTuple

from streams.core.errors import ConfigurationError

_FORM = (
    "write a secret of 16 characters or more, or several generations as generation:secret, comma separated, "
    "the newest first, such as 2:SECRET,1:SECRET"
)
_NUMBERED = re.compile(r"^([1-9][0-9]{0,3}):(.*)$", re.DOTALL)
_LEAST = 16


class SecretGeneration(NamedTuple):
    """A secret and its number. What is made with it names the number."""

    number: int
    secret: bytes


def parse_generations(text: str) -> tuple[SecretGeneration, ...]:
    """The generations in ``text``, newest first; a secret without a number is generation 1.

    Raises:
        ConfigurationError: names the malformed one by its place; a secret is never shown.
    """
    found: list[SecretGeneration] = []
    entries = [part.strip() for part in text.split(",")]
    for place, entry in enumerate(entries, 1):
        numbered = _NUMBERED.match(entry)
        if numbered is None and len(entries) > 1:
            raise _malformed(f"entry {place} has no generation")
        number, secret = (int(numbered[1]), numbered[2]) if numbered else (1, entry)
        if len(secret) < _LEAST or not secret.isprintable():
            raise _malformed(f"the secret of generation {number} cannot be used")
        if found and number >= found[-1].number:
            raise _malformed(f"generation {number} stands behind generation {found[-1].number}")
        if any(one.secret == secret.encode() for one in found):
            raise _malformed(f"generation {number} has another one's secret")
        found.append(SecretGeneration(number, secret.encode()))
    return tuple(found)


def _malformed(what: str) -> ConfigurationError:
    return ConfigurationError(f"PRIVACY_SECRET: {what}", setting="PRIVACY_SECRET", fix=_FORM)
