"""The labels that the API passes on: none of a row that was erased."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from streams.api.label_feed import without_erased
from streams.core.records import Record
from streams.ports.label_feed import LiveSlice, live_label
from streams.privacy.erasure import ErasedId, ErasureList, digests_of

_SALT = "salt:" + "00" * 16
_AT = 1_700_000_000_000_000


def _erased(kind: Any, plain: str) -> ErasureList:
    return ErasureList([ErasedId(kind, digests_of(plain, [_SALT], None)[0], _SALT, _AT)])


def _passing(offset: int, **changes: Any) -> Any:
    told = {"row_id": "7", "user_id": "anna", "created_at": "2023-01-01T00:00:00Z", "label": "a", "text": "t"}
    return live_label(Record("esk.labeled", 0, offset, 0, b"7", orjson.dumps(told | changes)))


@pytest.mark.parametrize(("kind", "plain"), [("user", "anna"), ("row", "7")])
def test_no_label_of_an_erased_row_is_passed_on(kind: Any, plain: str) -> None:
    others = _passing(1, row_id="8", user_id=None)
    later = _passing(2, created_at="2026-01-01T00:00:00Z")
    untold = _passing(3, created_at="yesterday")
    some = LiveSlice((0,), [_passing(0), others, later, untold])
    found = without_erased(some, _erased(kind, plain)).labels
    assert [one.data != b"" for one in found] == [False, True, True, False]
    assert [one.offset for one in found] == [0, 1, 2, 3]
    assert b"anna" not in repr(found[0]).encode()
    assert without_erased(some, ErasureList()) is some
