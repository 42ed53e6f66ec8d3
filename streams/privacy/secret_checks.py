"""Check values of `PRIVACY_SECRET`, one a generation: with another secret under the same number the same id
would silently get another pseudonym.

They stand on the cursor topic, `privacy-secret/<generation>`. What was noted first stands.
"""

from __future__ import annotations

from streams.core.errors import ConfigurationError
from streams.core.records import Outgoing, Record
from streams.privacy.pseudonyms import Pseudonyms

_KEY = "privacy-secret/"


class SecretChecks:
    """Those that the cursor topic has."""

    def __init__(self) -> None:
        self.known: dict[str, bytes] = {}

    def learn(self, record: Record) -> None:
        """Read a message of the topic, in order; other messages are ignored."""
        key = (record.key or b"").decode("utf-8", "replace")
        if not key.startswith(_KEY):
            return
        if record.value is None:
            self.known.pop(key, None)
        else:
            self.known.setdefault(key, record.value)

    def refuse_other(self, pseudonyms: Pseudonyms) -> None:
        """Raises:
        ConfigurationError: a generation has another secret than it had.
        """
        for number, value in pseudonyms.checks.items():
            if self.known.get(f"{_KEY}{number}", value) != value:
                raise ConfigurationError(
                    f"generation {number} of PRIVACY_SECRET is another secret than before: users would get "
                    "other pseudonyms, and rows and erasures of before would not be recognised",
                    setting="PRIVACY_SECRET",
                    fix=f"set the secret that was generation {number}; a new one comes before it, as "
                    f"generation {max(pseudonyms.checks) + 1}",
                )

    def missing(self, pseudonyms: Pseudonyms, cursor: str) -> list[Outgoing]:
        """The messages for the topic ``cursor`` of generations that it does not have."""
        return [
            Outgoing(cursor, 0, key.encode(), value)
            for number, value in pseudonyms.checks.items()
            if (key := f"{_KEY}{number}") not in self.known
        ]

    def again(self, sent: list[Outgoing]) -> list[Outgoing]:
        """The messages that stand for those of ``sent`` that came second, which a compaction would keep."""
        return [
            one._replace(value=first)
            for one in sent
            if (first := self.known.get((one.key or b"").decode())) is not None and first != one.value
        ]
