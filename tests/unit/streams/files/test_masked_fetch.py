"""The rows of a fetch are masked as the poller masks them, and erased ones left out."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from connectors.clickhouse.erasure.erased_list import nothing_erased
from streams.core.times import micros_of
from streams.files.fetch import _converting
from streams.privacy.door import Door
from streams.privacy.erasure import ErasedId, ErasureList, digests_of
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
    convert = _converting(make_door(), nothing_erased, asyncio.get_running_loop())
    (row,) = (await asyncio.to_thread(convert, block)).to_pylist()
    assert row["text"] == "тел [ТЕЛЕФОН]"
    assert is_pseudonym(row["user_id"])


@pytest.mark.parametrize("door", [None, make_door()])
async def test_a_user_who_was_erased_before_masking_is_left_out(door: Door | None) -> None:
    at, key = datetime(2026, 1, 1, tzinfo=UTC), f"salt:{'ab' * 16}"
    entry = ErasedId("user", digests_of("4711", [key], None)[0], key, micros_of(at))

    async def erased() -> ErasureList:
        return ErasureList([entry])

    users = ["4711", "4712", None, "4711"]
    block = pa.table(
        {
            "text": [str(number) for number in range(4)],
            "domain": pa.array([None] * 4, pa.string()),
            "ts": pa.array([at, at, at, at.replace(day=2)], pa.timestamp("us", "UTC")),
            "user_id": users,
        }
    )
    convert = _converting(door, erased, asyncio.get_running_loop())
    found = await asyncio.to_thread(convert, block)
    assert found["text"].to_pylist() == ["1", "2", "3"]
