"""Files of strangers: each is understood rightly, or told of, or refused; none in silence."""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from connectors.files.records import Broken
from connectors.files.rows import FileRow
from connectors.files.uploads import Chosen, Upload, Uploads
from streams.core.errors import RefusedError
from streams.core.settings import Settings
from streams.ports.files import text_in
from tests.unit.connectors.files.strangers import CLEAR, STRANGERS, Stranger

SHARED = Path("tests/data/strangers")


async def received(
    folder: Path, content: bytes, answers: dict[str, str] | None = None
) -> tuple[Uploads, Upload]:
    async def pieces() -> AsyncIterator[bytes]:
        yield content

    uploads = Uploads(Settings(labelstream_data=folder, api_upload_bytes=2_000_000))
    upload, _ = await uploads.receive(pieces(), "a")
    if answers:
        upload = await uploads.shown(upload.file_id, Chosen(answers=answers))
    return uploads, upload


@pytest.mark.parametrize("name", STRANGERS)
async def test_a_strangers_file(tmp_path: Path, name: str) -> None:
    one: Stranger = STRANGERS[name]
    if one.refused:
        with pytest.raises(RefusedError, match=one.refused):
            await received(tmp_path, one.content)
        assert not list((tmp_path / "uploads").iterdir()), "nothing stays of what was refused"
        return
    uploads, upload = await received(tmp_path, one.content, one.answers)
    said = [*map(text_in, upload.warnings), *(question.id for question in upload.questions)]
    if one.told == CLEAR:
        assert not said
    else:
        assert any(one.told in text for text in said), said
    for question in upload.questions:
        assert question.guess in question.choices
    assert upload.broken == one.broken, upload.listed
    rows = [row.row async for row in uploads.records(upload) if not isinstance(row, Broken) and row.row]
    if one.texts:
        assert [row.text for row in rows] == one.texts
    if one.times:
        assert [row.created_at.replace(tzinfo=None).isoformat() for row in rows][
            : len(one.times)
        ] == one.times
    if one.users:
        assert [row.user_id for row in rows] == one.users
    assert not one.timeless or "timestamp" not in upload.mapping
    json.dumps(upload.as_dict()).encode()


SEEN: dict[str, dict[str, Any]] = {
    "small.csv": {
        "rows": 2,
        "delimiter": ";",
        "mapping": {"text": "text", "timestamp": "date", "user": "user_id"},
    },
    "large.csv": {
        "rows": 60,
        "rows_broken": 0,
        "mapping": {"text": "text", "timestamp": "date", "user": "user_id"},
    },
    "utf16.csv": {"rows": 2, "header": True, "encoding": "utf-16"},
    "title.csv": {"rows": 60, "header": True},
    "nan_all.jsonl": {"rows": 3, "rows_broken": 0, "mapping": {"user": "user_id", "text": "text"}},
    "nan_some.jsonl": {"rows": 3, "rows_broken": 0},
    "chat_id.jsonl": {"mapping": {"text": "body"}},
    "inn.csv": {"mapping": {"text": "zapros_klienta"}},
    "order.csv": {"mapping": {"text": "zapros_klienta"}},
    "snowflake.jsonl": {"mapping": {"text": "utterance_text"}},
    "slash.csv": {"rows_broken": 0, "mapping": {"text": "text", "timestamp": "created_at"}},
    "utc.csv": {"rows_broken": 0, "mapping": {"text": "text", "timestamp": "created_at"}},
    "yy.csv": {"rows_broken": 0, "mapping": {"text": "text", "timestamp": "date"}},
    "hour1.csv": {"rows_broken": 0, "mapping": {"text": "text", "timestamp": "created_at"}},
    "date_time.csv": {"mapping": {"text": "text", "timestamp": "date", "user": "user_id"}},
    "infinity.parquet": {"rows": 3, "rows_broken": 2},
    "badutf.parquet": {"rows": 3, "rows_broken": 1},
    "msk.parquet": {"rows": 3, "rows_broken": 0},
    "nan_user.parquet": {"rows": 3, "rows_broken": 0},
    "table.tsv": {"rows": 6, "rows_broken": 0},
    "spark.csv": {"rows": 2, "rows_broken": 0},
}


@pytest.mark.parametrize("name", SEEN)
async def test_a_file_that_somebody_had(tmp_path: Path, name: str) -> None:
    _, upload = await received(tmp_path, (SHARED / name).read_bytes())
    found = upload.as_dict()
    assert {key: found[key] for key in SEEN[name]} == SEEN[name]


async def test_two_columns_of_one_name_in_parquet_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="user_id"):
        await received(tmp_path, (SHARED / "duplicate.parquet").read_bytes())


async def test_parquet_is_read_column_by_column(tmp_path: Path) -> None:
    day, digest = date(2026, 1, 31), bytes(range(16))
    table = pa.table(
        {
            "text": pa.array([b"one two", b"\xff", None], pa.binary()),
            "date": pa.array([day] * 3),
            "time": pa.array([dt.time(10, 5)] * 3, pa.time64("ns")),
            "uuid": pa.array([digest] * 3, pa.binary(16)),
            "user_id": pa.array([12345.0, float("inf"), float("nan")]),
            "session_id": pa.array([Decimal("12345678901234567890")] * 3, pa.decimal128(38, 0)),
            "message": pa.array([{"a": 1}] * 3),
        }
    )
    out = io.BytesIO()
    parquet.write_table(table, out)
    uploads, upload = await received(tmp_path, out.getvalue())
    assert (upload.rows, upload.broken, upload.skipped) == (3, 1, 1)
    assert any("['message']" in text_in(text) for text in upload.warnings)
    first = await anext(uploads.records(upload))
    assert isinstance(first, FileRow)
    assert first.row is not None
    assert first.row.created_at == datetime(2026, 1, 31, 10, 5, tzinfo=UTC)
    assert (first.id, first.row.user_id, first.row.session_id) == (
        digest.hex(),
        "12345",
        "12345678901234567890",
    )


async def test_a_damaged_column_costs_itself(tmp_path: Path) -> None:
    out = io.BytesIO()
    table = pa.table({"text": ["где заказ", "да да"], "noise": ["abcdefgh" * 9, "ijklmnop" * 9]})
    parquet.write_table(table, out, compression="snappy", use_dictionary=False)
    start = parquet.ParquetFile(out).metadata.row_group(0).column(1).data_page_offset
    content = bytearray(out.getvalue())
    content[start : start + 20] = b"\xff" * 20
    _, upload = await received(tmp_path, bytes(content))
    assert (upload.rows, upload.broken, upload.reading.columns) == (2, 0, ("text",))
    assert any("['noise']" in text_in(text) for text in upload.warnings)


async def test_another_encoding_than_it_has_is_refused(tmp_path: Path) -> None:
    uploads, upload = await received(tmp_path, STRANGERS["gzip"].content)
    for encoding in ("utf-16", "utf-32"):
        with pytest.raises(RefusedError, match=encoding):
            await uploads.shown(upload.file_id, Chosen(encoding=encoding))


async def test_a_file_of_an_older_release_is_looked_at_again(tmp_path: Path) -> None:
    uploads, upload = await received(tmp_path, STRANGERS["America or Britain"].content)
    stored = tmp_path / "uploads" / f"{upload.file_id}.json"
    stored.write_text(upload.model_copy(update={"release": 0, "questions": []}).model_dump_json(), "utf-8")
    assert not (await uploads.shown(upload.file_id)).questions
    _, again = await received(tmp_path, STRANGERS["America or Britain"].content)
    assert again.questions == upload.questions


async def test_an_answer_that_is_none_is_refused(tmp_path: Path) -> None:
    ambiguous = STRANGERS["America or Britain"].content
    for wrong in ({"dates": "backwards"}, {"color": "red"}):
        with pytest.raises(RefusedError) as raised:
            await received(tmp_path, ambiguous, wrong)
        assert raised.value.reason == "answers"
