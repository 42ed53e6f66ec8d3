"""The rows of a fetch are masked as the poller masks them, and erased ones left out."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from connectors.clickhouse.poller.row_identity import RowDigests, content_of
from connectors.clickhouse.source.connector import _kept
from connectors.clickhouse.source.table import SourceRow
from streams.files.fetch import _Leaving, _Masking
from streams.privacy.erasure import ErasedId, ErasureList, digests_of
from streams.privacy.pseudonyms import Pseudonyms, is_pseudonym
from streams.privacy.secret import parse_generations
from tests.unit.streams.privacy.fakes import SECRET, make_door

_AT = 1_700_000_000_000_000
_KEYS = Pseudonyms(parse_generations(SECRET)).row_keys


async def test_a_text_is_cleaned_before_it_is_masked() -> None:
    block = pa.table(
        {
            "text": ["тел 8 912 \x00345 67 89"],
            "domain": pa.array([None], pa.string()),
            "ts": [datetime(2026, 1, 1, tzinfo=UTC)],
            "user_id": ["4711"],
        }
    )
    convert = _Masking(make_door(), asyncio.get_running_loop())
    (row,) = (await asyncio.to_thread(convert, block)).to_pylist()
    assert row["text"] == "тел [ТЕЛЕФОН]"
    assert is_pseudonym(row["user_id"])


def _leaving(kind: Any, plain: str) -> _Leaving:
    key = f"salt:{'ab' * 16}"
    entry = ErasedId(kind, digests_of(plain, [key], None)[0], key, _AT)
    return _Leaving(ErasureList([entry]), RowDigests(_KEYS, 1))


def _row(id_: bytes | None = b"42", user: bytes | None = b"4711", micros: int = _AT) -> SourceRow:
    return SourceRow(micros, b"", id_, "текст \xff".encode(), user, None, None)


def test_a_user_who_was_erased_before_masking_is_left_out() -> None:
    leaving = _leaving("user", "4711")
    rows = [_row(), _row(user=b"4712"), _row(user=None), _row(micros=_AT + 1)]
    assert leaving(rows) == [False, True, True, True]
    assert leaving.left_out == 1


@pytest.mark.parametrize("key", [None, _KEYS[1]])
def test_a_row_that_was_erased_is_left_out_by_its_id_or_its_digest(key: bytes | None) -> None:
    assert _leaving("row", "42")([_row(), _row(b"43")]) == [False, True]
    nameless = _row(None)
    digest = content_of(nameless, key).hex()
    assert _leaving("row", f"{digest}:1")([nameless, nameless, _row(None, b"1")]) == [False, True, True]
    assert _leaving("row", f"42~{digest[:8]}")([_row()]) == [content_of(_row(), key).hex()[:8] != digest[:8]]


def test_the_rows_that_stay_are_written_as_text() -> None:
    block = ([b"a\xff", b"b"], [None, b"d"], [_AT, _AT], [b"u", None], [b"1", b"2"])
    kept = _kept(block, lambda rows: [row.id == b"1" for row in rows])
    assert kept.to_pylist() == [
        {"text": "a\ufffd", "domain": None, "ts": datetime.fromtimestamp(_AT / 1e6, UTC), "user_id": "u"}
    ]
