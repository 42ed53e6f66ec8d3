"""Which texts the model labels although the proxy is sure: a random share, for ever."""

from __future__ import annotations

from hashlib import sha256

from streams.core.topics import normalise

_BITS = 53


def number_of(salt: str, text: str) -> float:
    """A text's number: uniform, 0 <= number < 1, for each salt another one. Equal queries have one number."""
    digest = sha256(salt.encode() + b"\0" + normalise(text).encode("utf-8", "surrogatepass")).digest()
    return (int.from_bytes(digest[:8], "little") >> 64 - _BITS) / (1 << _BITS)


def is_audited(version: str, text: str, rate: float) -> bool:
    """Whether ``text`` goes to the model in any case, of ``rate`` of all texts. Who is audited at a rate is
    audited at each higher one.
    """
    return number_of(f"audit/{version}", text) < rate
