"""Which rows a replay publishes before all others where a cascade learns: those of the audit that people have
answered, and that are the first of their texts in its source.

They certify a proxy and teach none. Spread over the whole replay they would certify one when most of it is
labelled. Every text is as likely to be among them as any other: the audit draws rows by their hash, and of
each text one row counts.
"""

from __future__ import annotations

from collections.abc import Iterable

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.queries.gold import human_answers
from connectors.clickhouse.queries.places import Key
from streams.core.settings import Settings
from streams.core.times import micros_of
from streams.core.topics import normalise
from streams.quality.settled import SettledRow, settled_rows

# More than certify any proxy. Their texts are bound in a query.
_MOST = 4_000


class JudgedFirst:
    """Of one reading of a source. ``judged``: text and key of rows; the last ones count."""

    def __init__(self, judged: Iterable[tuple[str, Key]]) -> None:
        self._judged: dict[str, set[Key]] = {}
        for text, key in list(judged)[-_MOST:]:
            self._judged.setdefault(normalise(text), set()).add(key)
        self._met: set[str] = set()
        self._taken: set[Key] = set()

    def __bool__(self) -> bool:
        return bool(self._judged)

    def takes(self, key: Key, text: str) -> bool:
        """Whether this row comes first. To be asked of the source's rows in order, at least of those whose
        text is one of the judged.
        """
        text = normalise(text)
        if text not in self._judged or text in self._met:
            return False
        self._met.add(text)
        if key not in self._judged[text]:
            return False
        self._taken.add(key)
        return True

    def has_taken(self, key: Key) -> bool:
        """Whether it came first in this reading; what came in one before is found on the topics and in the
        tables.
        """
        return key in self._taken


async def judged_texts(client: ClickHouseClient, settings: Settings) -> list[tuple[str, Key]]:
    """Text and key of the rows that the audit drew and people judged, in order of time, the newest 4,000.

    Raises:
        UnavailableError, ConfigurationError: as the client.
    """
    rows = settled_rows([one async for one in human_answers(client, settings)])
    return [_keyed(one) for one in rows if one.judged and one.probability][-_MOST:]


def _keyed(row: SettledRow) -> tuple[str, Key]:
    return row.text, (row.place.row_id, micros_of(row.place.created_at))
