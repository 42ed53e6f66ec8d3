"""Old files go, but those that a job needs."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from connectors.files.retention import delete_old, has_bytes
from connectors.files.uploads import Uploads
from streams.core.errors import RefusedError
from streams.core.settings import Settings
from tests.unit.connectors.files.test_strangers import received


def make_old(path: Path, days: float) -> None:
    at = time.time() - days * 86_400
    os.utime(path, (at, at))


async def test_old_uploads_and_exports_are_deleted(tmp_path: Path) -> None:
    settings = Settings(labelstream_data=tmp_path, upload_retention_days=5)
    assert delete_old(settings, set()) == 0
    ids = []
    for number, days in enumerate((6, 6, 4, 6)):
        uploads, upload = await received(tmp_path, f"text\nsome text {number}\n".encode())
        ids.append(upload.file_id)
        make_old(tmp_path / "uploads" / f"{upload.file_id}.data", days)
    # Uploaded once more, a file is new.
    await received(tmp_path, b"text\nsome text 3\n")
    (tmp_path / "exports").mkdir()
    for name, days in (("old", 6), ("new", 4)):
        (tmp_path / "exports" / f"{name}.csv").write_bytes(b"text\n")
        make_old(tmp_path / "exports" / f"{name}.csv", days)
    assert delete_old(settings, {ids[1]}) == 2
    assert {one.file_id for one in await uploads.every()} == set(ids[1:])
    assert [path.name for path in (tmp_path / "exports").iterdir()] == ["new.csv"]
    with pytest.raises(RefusedError, match="no uploaded file"):
        await Uploads(settings).shown(ids[0])


def test_a_file_without_a_description_is_searched_for_whole_ids(tmp_path: Path) -> None:
    path = tmp_path / "one.data"
    path.write_bytes("текст;4711\nещё;14711\n".encode("cp1251"))
    assert has_bytes(path, ["4711"])
    assert has_bytes(path, ["текст"])
    assert not has_bytes(path, ["471", "711"])
    path.write_bytes(b"")
    assert not has_bytes(path, ["4711"])
