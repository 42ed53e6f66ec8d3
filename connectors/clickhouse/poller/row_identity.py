"""The identity of rows: the plain id if there is one, otherwise a digest.

Where personal data is masked the digests are keyed, with the newest generation of `PRIVACY_SECRET`: nobody
learns a row's content by trying. They are made of the plain row, and a row is recognised under each digest
that it may have been published with, so that nothing is published twice when the setting or the secret
changes.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import NamedTuple

from connectors.clickhouse.source.table import SourceRow
from streams.core.errors import ConfigurationError
from streams.core.settings import Settings
from streams.privacy.pseudonyms import pseudonyms_of

# Sent with each published row, so that a later poller recognises its source row without the source.
CONTENT = "source-row"


class Mark(NamedTuple):
    """What is remembered of a source row: its time (microseconds since 1970) and 64 bits each of its content
    and of its plain id (0 without one); the ``generation`` of the key that the content's digest was made
    with, 0 for none.
    """

    micros: int
    content: int
    id: int
    generation: int = 0

    def header(self) -> bytes:
        """For the header `CONTENT`."""
        plain = b"%d/%016x/%016x" % self[:3]
        return b"%b/%d" % (plain, self.generation) if self.generation else plain

    @classmethod
    def parse(cls, header: bytes | None) -> Mark | None:
        """The inverse; None if it is no such header."""
        try:
            micros, content, id_, *keyed = (header or b"").split(b"/")
            return cls(int(micros), int(content, 16), int(id_, 16), *map(int, keyed[:1]))
        except ValueError:
            return None


def content_of(row: SourceRow, key: bytes | None = None) -> bytes:
    """A digest, 16 bytes, of everything that distinguishes two rows of the source.

    SHA-256 here, as everywhere for rows, because ClickHouse has it too (`message_sql.py`); HMAC of it with a
    ``key``, which never goes there.
    """
    id_, user, text = row.id or b"", row.user or b"", row.text or b""
    lengths = b"%d/%d/%d/" % (len(id_), row.micros, len(user))
    content = b"".join((lengths, id_, user, text))
    digest = sha256(content).digest() if key is None else hmac.digest(key, content, "sha256")
    return digest[:16]


class RowDigests:
    """The digests of one source table's rows. ``generation``: of the key that is used now, 0 for none."""

    def __init__(self, keys: Mapping[int, bytes] | None = None, generation: int = 0) -> None:
        """``keys``: by generation."""
        self.generation = generation
        self._keys: dict[int, bytes | None] = {0: None, **(keys or {})}
        self._key = self._keys[generation]

    @classmethod
    def of(cls, settings: Settings) -> RowDigests:
        """Keyed where personal data is masked. Without a secret there are no others to recognise."""
        pseudonyms = pseudonyms_of(settings)
        keys = {} if pseudonyms is None else pseudonyms.row_keys
        return cls(keys, next(iter(keys)) if settings.privacy == "mask" else 0)

    def content(self, row: SourceRow) -> bytes:
        """As `content_of`, with the key that is used now."""
        return content_of(row, self._key)

    @property
    def others(self) -> list[int]:
        """The generations of digests under which a row may have been published before."""
        return [one for one in self._keys if one != self.generation]

    def require(self, generations: Iterable[int], rows: str) -> None:
        """``rows`` were published with digests of these ``generations``.

        Raises:
            ConfigurationError: the key of one is not there.
        """
        if missing := sorted({*generations} - self._keys.keys()):
            raise ConfigurationError(
                f"{rows} were published with generation {', '.join(map(str, missing))} of PRIVACY_SECRET, "
                "which is not set: they would be published twice",
                setting="PRIVACY_SECRET",
                fix="set it again, with PRIVACY off too; newer generations stand before it",
            )

    def ids_of(self, row: SourceRow, ordinal: int) -> list[str]:
        """The ids under which ``row``, the n-th of equal ones, may have been published, with any key."""
        contents = (self.content(row), *(self.content_under(each, row) for each in self.others))
        return [name_row(row, content, ordinal, taken) for content in contents for taken in (False, True)]

    def content_under(self, generation: int, row: SourceRow) -> bytes:
        """The digest with the key of one of `others`."""
        return content_of(row, self._keys[generation])


def mark_of(row: SourceRow, content: bytes, generation: int = 0) -> Mark:
    """What to remember of a row. ``generation``: of the key of ``content``."""
    return Mark(row.micros, number_of(content), short_id(row.id) if row.id else 0, generation)


def number_of(content: bytes) -> int:
    """The 64 bits of a content's digest that are remembered."""
    return int.from_bytes(content[:8], "big")


def short_id(plain: bytes) -> int:
    """64 bits of a plain id; never 0."""
    return int.from_bytes(sha256(plain).digest()[:8], "big") or 1


def name_row(row: SourceRow, content: bytes, ordinal: int, taken: bool) -> str:
    """The row id: `<id>`; `<id>~<digest>` if another row stands under it; `~<n>` for the n-th equal one.
    Without an id `<digest>:<n>`. An id that is no text is named by its bytes, `0x<hex>`."""
    if not row.id:
        return f"{content.hex()}:{ordinal}"
    try:
        plain = row.id.decode()
    except UnicodeDecodeError:
        plain = f"0x{row.id.hex()}"  # with replacements two ids could become one
    if ordinal > 1:
        return f"{plain}~{content.hex()[:8]}~{ordinal}"
    return f"{plain}~{content.hex()[:8]}" if taken else plain
