"""The list of erasures that a role asks for each message."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from streams.core.errors import ConfigurationError, UnavailableError
from streams.core.messages import Row
from streams.privacy.erasure import ErasedId, ErasureList, digests_of
from streams.runtime.erasures import KnownErasures

_SALT = "salt:" + "00" * 16
_ROW = Row(
    row_id="7",
    text="text",
    created_at=datetime(2023, 1, 1, tzinfo=UTC),
    user_id="anna",
    polled_at=datetime(2023, 1, 1, tzinfo=UTC),
)


class _Tables:
    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    async def ask(self, _: Any) -> ErasureList:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        found: ErasureList = answer
        return found


async def test_what_was_erased_stays_known_while_clickhouse_is_away() -> None:
    erased = ErasureList([ErasedId("user", digests_of("anna", [_SALT], None)[0], _SALT, 17 * 10**14)])
    known = KnownErasures(_Tables(UnavailableError("away"), erased, UnavailableError("away")))  # type: ignore[arg-type]
    await known.begin()
    assert not known.read
    assert not known.covers(_ROW)
    await known.begin()
    assert known.read
    assert known.covers(_ROW)
    await known.begin()
    assert known.covers(_ROW)


async def test_without_its_secret_nothing_is_taken_for_not_erased() -> None:
    missing = ConfigurationError("generation 2", setting="PRIVACY_SECRET")
    known = KnownErasures(_Tables(missing, ErasureList()))  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError):
        await known.begin()
    with pytest.raises(ConfigurationError):
        known.covers(_ROW)
    await known.begin()
    assert not known.covers(_ROW)
