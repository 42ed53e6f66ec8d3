"""Unpacks an uploaded archive of one file, and recognises what is no file of rows."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EINVAL
from pathlib import Path
from typing import IO

import pyarrow as pa

from connectors.files.texts import refused
from streams.core.errors import RefusedError
from streams.ports.files import NO_FILE_OF_ROWS

_CHUNK = 1 << 20
_MOST_WORKBOOK = 1 << 29  # a workbook is in memory while it is read
ZIP = b"PK\x03\x04"
# Of Arrow's codecs, and what else a file begins with that holds no rows.
_CODECS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2"}
_OTHERS = {
    "archive": (*_CODECS,),
    "zip": (ZIP,),
    "xz": (b"\xfd7zXZ",),
    "7z": (b"7z\xbc\xaf",),
    "rar": (b"Rar!",),
    "old office": (b"\xd0\xcf\x11\xe0",),
    "sqlite": (b"SQLite format 3",),
    "avro": (b"Obj\x01",),
    "orc": (b"ORC",),
    "arrow": (b"ARROW1",),
    "pdf": (b"%PDF",),
    "rtf": (b"{\\rtf",),
    "xml": (b"<",),
    "dump": (b"PGDMP",),
    "drawn": (b"+--", "┌".encode(), "┏".encode(), b"Row 1:", b"-[ RECORD", b"*" * 20),
}
# After comments, what a dump of a database begins with.
_SQL = re.compile(
    rb"(?:\s|--[^\n]*\n|/\*.*?\*/;?|\\restrict[^\n]*\n)*+(?:INSERT INTO |CREATE |DROP TABLE |LOCK TABLES "
    rb"|COPY \S+ \(|SET [@\w.]+ ?=|PRAGMA \w+ ?=|BEGIN(?: TRANSACTION)?;|START TRANSACTION;)",
    re.S,
)


def what_else(begin: bytes) -> str | None:
    """The text that tells what a file is that begins in this way, if it is no file of rows."""
    if _SQL.match(begin):
        return "sql"
    return next((what for what, magics in _OTHERS.items() if begin.startswith(magics)), None)


def unpack(path: Path, into: Path, most: int) -> bool:
    """Write the file in the archive ``path`` to ``into``; False if it is no archive. A workbook is checked
    and stays as it is.

    Raises:
        RefusedError: reason `format`: a damaged archive, one of several files, or more than ``most`` bytes.
        OSError: ``into`` cannot be written.
    """
    with path.open("rb") as file:
        start = file.read(8)
    codec = next((codec for magic, codec in _CODECS.items() if start.startswith(magic)), None)
    if codec is None and not start.startswith(ZIP):
        return False
    with into.open("wb") as out, _damaged():
        if codec is not None:
            return _write(pa.input_stream(str(path), compression=codec), out, most)
        with zipfile.ZipFile(path) as archive:
            if (found := _content(archive)) is not None:
                with archive.open(found) as content:
                    return _write(content, out, most)
            if sum(one.file_size for one in archive.infolist()) > min(most, _MOST_WORKBOOK):
                raise _refused("large workbook")
            if bad := archive.testzip():
                raise _refused("damaged workbook", name=bad)
            return False


def _content(archive: zipfile.ZipFile) -> zipfile.ZipInfo | None:
    """The one file of rows; None in a workbook."""
    names = set(archive.namelist())
    if "xl/workbook.xml" in names or "xl/workbook.bin" in names:
        return None
    if "[Content_Types].xml" in names or "mimetype" in names:
        raise _refused("office document")
    files = [
        one
        for one in archive.infolist()
        if not one.is_dir()
        and not one.filename.startswith("__MACOSX/")
        and not one.filename.rpartition("/")[2].startswith(".")
    ]
    if len(files) != 1:
        listed = ", ".join(one.filename[:60] for one in files[:5])
        raise _refused("several files", count=len(files), names=listed)
    if files[0].flag_bits & 1:
        raise _refused("password")
    return files[0]


def _write(content: IO[bytes], out: IO[bytes], most: int) -> bool:
    while piece := content.read(_CHUNK):
        out.write(piece)
        if out.tell() > most:
            raise _refused("large content", most=most)
    return True


@contextmanager
def _damaged() -> Iterator[None]:
    errors = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, pa.ArrowException, OSError)
    try:
        yield
    except errors as error:
        # What the disk says is no matter of the archive; a place outside of the file is.
        if isinstance(error, OSError) and error.errno not in (None, EINVAL):
            raise
        raise _refused("damaged archive", error=error) from error


def _refused(code: str, **values: object) -> RefusedError:
    return refused(code, reason=NO_FILE_OF_ROWS, **values)
