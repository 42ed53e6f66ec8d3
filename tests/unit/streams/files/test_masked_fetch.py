"""The rows of a fetch are masked as the poller masks them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pyarrow as pa

from streams.files.fetch import _masking
from streams.privacy.pseudonyms import is_pseudonym
from tests.unit.streams.privacy.fakes import make_door


async def test_a_text_is_cleaned_before_it_is_masked() -> None:
    block = pa.table(
        {
            "text": ["тел 8 912 \x00345 67 89"],
            "domain": pa.array([None], pa.string()),
            "ts": [datetime(2026, 1, 1, tzinfo=UTC)],
            "user_id": ["4711"],
        }
    )
    convert = _masking(make_door(), asyncio.get_running_loop())
    (row,) = (await asyncio.to_thread(convert, block)).to_pylist()
    assert row["text"] == "тел [ТЕЛЕФОН]"
    assert is_pseudonym(row["user_id"])
