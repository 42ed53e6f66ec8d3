"""Deletes uploaded and exported files that are old, or hold rows that are erased."""

from __future__ import annotations

import contextlib
import csv
import mmap
import os
import re
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from connectors.files.reading import read
from connectors.files.records import FileRecord, Reading, text_of
from connectors.files.uploads import folder_of, path_of
from streams.core.settings import Settings

_DAY_SECONDS = 86_400.0


def delete_old(settings: Settings, used: Collection[str]) -> int:
    """Delete what nobody uploaded or wrote for UPLOAD_RETENTION_DAYS, uploads with their description.
    ``used``: ids of uploaded files that stay. Returns how many files are gone.
    """
    oldest, deleted = time.time() - settings.upload_retention_days * _DAY_SECONDS, 0
    uploads = [path for path in folder_of(settings).glob("*.data") if path.stem not in used]
    for path in [*uploads, *exports_in(settings)]:
        with contextlib.suppress(OSError):  # another process did it
            if path.stat().st_mtime < oldest:
                path.with_suffix(".json").unlink(missing_ok=True)
                path.unlink()
                deleted += 1
    return deleted


def delete_upload(settings: Settings, file_id: str) -> None:
    """Delete an uploaded file and its description, which has a sample of it.

    Raises:
        OSError: it cannot be deleted.
    """
    path = path_of(settings, file_id)
    path.with_suffix(".json").unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def exports_in(settings: Settings) -> list[Path]:
    """The exported files."""
    return sorted((settings.labelstream_data / "exports").glob("*.csv"))


def mentions(path: Path, reading: Reading, columns: Collection[str], values: Collection[str]) -> bool:
    """Whether a record of the file has one of ``values`` in one of ``columns``.

    Raises:
        OSError, RefusedError: as `reading.read`.
    """
    places = [reading.columns.index(column) for column in columns]
    for record in read(path, reading, set(columns)):
        if isinstance(record, FileRecord):
            for place in places:
                if (value := record.values[place]) is not None:
                    found = text_of(value).strip()
                    if found in values or found.removeprefix('="').removesuffix('"') in values:
                        return True
    return False


def has_bytes(path: Path, values: Collection[str]) -> bool:
    """Whether one of ``values`` stands somewhere in a file of unknown format, in UTF-8 or Windows-1251, and
    not within a longer word or number.

    Raises:
        OSError: it cannot be read.
    """
    forms = {value.encode(code, "replace") for value in values for code in ("utf-8", "cp1251")}
    wanted = re.compile(rb"(?<![0-9A-Za-z_])(?:%b)(?![0-9A-Za-z_])" % b"|".join(map(re.escape, forms)))
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return wanted.search(content) is not None


def count_lines(path: Path, wanted: Callable[[list[str]], bool]) -> int:
    """How many records of an exported file are ``wanted``."""
    return sum(wanted(fields) for _, fields in _records(path))


def cut_lines(path: Path, unwanted: Callable[[list[str]], bool]) -> None:
    """Take records out of an exported file; the others stay as they are, byte for byte.

    Raises:
        OSError: it cannot be written.
    """
    beside = path.with_suffix(".csv.part")
    try:
        with beside.open("wb") as file:
            for line, fields in _records(path):
                if not unwanted(fields):
                    file.write(line)
            file.flush()
            os.fsync(file.fileno())
        stat = path.stat()
        os.utime(beside, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # it is kept no longer for it
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _records(path: Path) -> Iterator[tuple[bytes, list[str]]]:
    """The records of an exported file, as they are and in fields. A text may have line ends, in quotes."""
    held = b""
    with path.open("rb") as file:
        for line in file:
            held += line
            if held.count(b'"') % 2 == 0:
                yield held, next(csv.reader([held.decode("utf-8", "replace")]), [])
                held = b""
    if held:
        yield held, []
