"""Reads a table that is not sorted by time, in the order of time, with work that is linear in its rows.

Each query for a range of times reads the whole table there. So there are few ranges, however many rows there
are: each is sorted by the server, written to a temporary file, and read from there page by page.
"""

from __future__ import annotations

import asyncio
import itertools
import marshal
import tempfile
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import cramjam

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.source.shape import Shape
from streams.core.errors import ConfigurationError

# Bytes of a slice; with more than MOST_SLICES of them, slices are larger.
SLICE_BYTES = 128_000_000
MOST_SLICES = 64
_ROW_BYTES = 200  # without its text

Columns = list[Sequence[Any]]


class Slice(NamedTuple):
    """Rows from ``begin`` to before ``end``, microseconds since 1970. ``rows``: about so many; ``size``: of
    one, approximate bytes.
    """

    begin: int | None
    end: int | None
    rows: int
    size: int


async def slices(client: ClickHouseClient, shape: Shape, since: int | None, until: int | None) -> list[Slice]:
    """Ranges with about equal numbers of rows, in order, which together cover all rows; none without rows.

    Reads the times once.
    """
    read = shape.select(("time", "size"), since, until, all_versions=True)
    levels = ", ".join(str(number / MOST_SLICES) for number in range(1, MOST_SLICES))
    found = await client.rows(
        f"SELECT count(), sum(size), min(at), quantiles({levels})(at) FROM ({read.subquery})",
        read.parameters,
    )
    rows, texts, first, quantiles = found[0]
    rows = int(rows)
    if not rows:
        return []
    size = (int(texts) + rows * _ROW_BYTES) // rows
    wanted = 1
    while wanted < MOST_SLICES and wanted * SLICE_BYTES < rows * size:
        wanted *= 2
    cuts = sorted({int(at) for at in quantiles[MOST_SLICES // wanted - 1 :: MOST_SLICES // wanted]})
    edges = [since, *(cut for cut in cuts if cut > int(first)), until]
    return [Slice(begin, end, rows // (len(edges) - 1), size) for begin, end in itertools.pairwise(edges)]


async def spooled(
    client: ClickHouseClient,
    sql: str,
    parameters: dict[str, Any],
    *,
    folder: Path,
    size: int,
    page_rows: int,
    page_bytes: int,
) -> AsyncGenerator[Columns, None]:
    """The result of ``sql``, whose order begins with its first two columns, by columns and in pages: of about
    ``page_rows`` rows or ``page_bytes`` bytes. Rows that are equal in these two columns are never split.

    ``folder``: for the file, if it is there; else it is where temporary files are. ``size``: of a row,
    approximate bytes. The server has answered the whole query before the first page.

    Raises:
        ConfigurationError: there is no room for temporary files.
        UnavailableError, OverloadedError, AccessError: as the client.
    """
    with _temporary(folder) as file:

        def take(columns: Sequence[Any]) -> None:
            if not columns or not len(columns[0]):
                return
            try:
                block = marshal.dumps([list(column) for column in columns], 2)  # 2: without references
                packed = cramjam.zstd.compress(block, 1)
                file.write(len(packed).to_bytes(8, "big"))
                file.write(packed)
            except OSError as error:
                raise _no_room(error) from error

        block_rows = max(1, min(page_rows, page_bytes // size))
        await asyncio.to_thread(
            client.stream, sql, parameters, take, strings_as_bytes=True, block_rows=block_rows
        )
        file.seek(0)
        held: Columns = []
        read = await asyncio.to_thread(_next, file)
        while read is not None:
            (block, bytes_), read = read, await asyncio.to_thread(_next, file)
            block = [[*some, *more] for some, more in zip(held, block, strict=True)] if held else block
            pages = _split(block, page_bytes if bytes_ > 2 * page_bytes else 0, last=read is None)
            held = [] if read is None else pages.pop()
            for page in pages:
                yield page
            del block, pages


def _split(block: Columns, most_bytes: int, *, last: bool) -> list[Columns]:
    """``block`` in pages of about ``most_bytes`` (0: in one). Unless it is the ``last`` one, the last page
    are the rows that may have equal ones behind them.
    """
    rows, first, second = len(block[0]), block[0], block[1]
    cuts, size = [0], 0
    for at in range(1, rows) if most_bytes else ():
        size += sum(len(column[at - 1]) for column in block if isinstance(column[at - 1], bytes))
        if size > most_bytes and (first[at], second[at]) != (first[at - 1], second[at - 1]):
            cuts.append(at)
            size = 0
    tail = rows - 1
    while not last and tail > cuts[-1] and (first[tail], second[tail]) == (first[tail - 1], second[tail - 1]):
        tail -= 1
    if not last and tail > cuts[-1]:
        cuts.append(tail)
    return [
        [column[begin:end] for column in block] for begin, end in zip(cuts, [*cuts[1:], rows], strict=True)
    ]


def _next(file: IO[bytes]) -> tuple[Columns, int] | None:
    if not (length := int.from_bytes(file.read(8), "big")):
        return None
    block = cramjam.zstd.decompress(file.read(length))
    found: Columns = marshal.loads(block)
    return found, len(block)


def _temporary(folder: Path) -> IO[bytes]:
    try:
        return tempfile.TemporaryFile(dir=folder if folder.is_dir() else None)
    except OSError as error:
        raise _no_room(error) from error


def _no_room(error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"a part of the source table cannot be written to a temporary file: {error.strerror or error}",
        setting="LABELSTREAM_DATA",
        fix="point it at a folder with free space, or let the source table be sorted by its time",
    )
