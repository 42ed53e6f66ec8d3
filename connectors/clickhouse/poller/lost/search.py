"""The progress of a search for the rows of lost messages, and what it compares with."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from connectors.clickhouse.poller.published_rows import Published
from connectors.clickhouse.poller.row_identity import CONTENT, Mark
from connectors.clickhouse.poller.settled_rows import PassingRows
from streams.core.codec import MESSAGE_TYPE, decode
from streams.core.digests import Digests, key_digest
from streams.core.errors import UndecodableError
from streams.core.losses import Loss
from streams.core.messages import Row
from streams.core.times import micros_of
from streams.ports.kafka import InFlight

_MARKS = 10_000  # objects at a time


class Window(NamedTuple):
    """The rows that the poller reads again: from ``begin`` to ``watermark`` (microseconds since 1970);
    ``published``: those that it has published. ``floor``: rows before it are never read. ``generations``: of
    the secret, with which rows were ever published.
    """

    begin: int
    watermark: int
    floor: int | None
    published: Published
    generations: Sequence[int] = ()


class Search(BaseModel):
    """The progress of a search for the rows of some losses; on the cursor topic under ``lost-rows/<source>``.

    ``covers``: the losses, and the end offset of each. ``partitions``: of the rows topic. ``position``: rows
    before this time are done. ``ends``: by partition, the offset after the last published row. ``labels``:
    the offsets after their labels.
    """

    model_config = ConfigDict(extra="ignore")

    id: str = Field(default_factory=lambda: f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}")
    covers: dict[str, int] = Field(default_factory=dict)
    partitions: list[int] = Field(default_factory=list)
    stored: bool = False  # some had a label that is gone
    position: int | None = None
    published: int = 0
    ends: dict[int, int] = Field(default_factory=dict)
    labels: dict[int, int] | None = None
    complete: bool = False
    done: bool = False

    def has(self, losses: Sequence[Loss]) -> bool:
        """Whether it covers all of these."""
        return all(self.covers.get(loss.id, -1) >= loss.end for loss in losses)


class OnTheWay:
    """Messages on the topics that are not in the tables: ``published`` by content, ``rows`` of those without
    a content header, and the `key_digest` of rows whose variants are ``augmented``.
    """

    def __init__(self, *, any_text: bool = False) -> None:
        """``any_text`` as for `PassingRows`."""
        self.published = Published()
        self.rows = PassingRows(any_text=any_text)
        self.augmented = Digests()

    @classmethod
    async def seen(
        cls, in_flight: InFlight, partitions: Iterable[int], *, any_text: bool = False
    ) -> OnTheWay:
        found, marks = cls(any_text=any_text), list[Mark]()
        async for record in in_flight.of(frozenset(partitions)):
            if (mark := Mark.parse(record.header(CONTENT))) is not None:
                marks.append(mark)
                if len(marks) >= _MARKS:
                    found.published.add(marks)
                    marks = []
                continue
            try:
                row = decode(Row, record.value)
            except UndecodableError:
                continue
            key = (row.row_id, micros_of(row.created_at))
            if record.header(MESSAGE_TYPE) == b"augmented" or record.header("step") == b"augment":
                found.augmented.add(key_digest(*key))
            else:
                found.rows.add(*key, row.text)
        found.published.add(marks)
        return found
