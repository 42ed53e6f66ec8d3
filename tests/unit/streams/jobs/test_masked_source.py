"""A job's rows are masked, whether they come from a file or were stored before masking was switched on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from streams.core.codec import decode, decode_dead_letter, encode
from streams.core.messages import Row
from streams.core.topics import Topics, partition_of
from streams.jobs.masked_source import MaskedFeed
from streams.jobs.sources import Page, item_of
from streams.privacy.pseudonyms import is_pseudonym
from tests.unit.streams.privacy.fakes import UNMASKABLE, make_door

AT = datetime(2026, 1, 1, tzinfo=UTC)
PSEUDONYM = "p1:" + "0" * 32


def row(row_id: str, text: str, user: str | None = None) -> Row:
    return Row(row_id=row_id, text=text, created_at=AT, user_id=user, polled_at=AT)


class Feed:
    def __init__(self, *rows: Row) -> None:
        self._rows = rows

    async def count(self) -> int:
        return len(self._rows)

    async def pages(self, position: Any) -> AsyncIterator[Page]:
        yield Page([item_of(one, 0, encode(one)) for one in self._rows], 1, settled=2)


async def masked(*rows: Row) -> Page:
    feed = MaskedFeed(Feed(*rows), make_door(), Topics("t"), 4, where="here")
    (page,) = [page async for page in feed.pages(None)]
    return page


async def test_what_was_stored_is_masked_once() -> None:
    stored = row("2", "мой [ТЕЛЕФОН]", PSEUDONYM)
    page = await masked(row("1", "мой +7 916 123-45-67", "79161234567"), stored)
    first, second = page.items
    message = decode(Row, first.value)
    assert (message.text, first.text) == ("мой [ТЕЛЕФОН]", "мой [ТЕЛЕФОН]")
    assert first.partition == partition_of("мой [ТЕЛЕФОН]", 4)
    assert is_pseudonym(message.user_id or "")
    assert second.value == encode(stored)
    assert (page.position, page.settled, page.unreadable) == (1, 2, 0)


async def test_a_row_that_cannot_be_masked_is_named_and_not_shown() -> None:
    page = await masked(row("1", f"вот {UNMASKABLE}"), row("2", "вопрос"))
    assert [item.row_id for item in page.items] == ["2"]
    assert page.unreadable == 1
    (message,) = page.letters
    letter = decode_dead_letter(message.value, message.headers)
    assert (letter.step, letter.reason, letter.row_id) == ("mask", "cannot-mask", "1")
    assert "here" in letter.error
    assert UNMASKABLE.encode() not in b"".join(value for _, value in message.headers) + (message.value or b"")
