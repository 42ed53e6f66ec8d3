"""Records of a sheet of an Excel workbook. Its cells become text, digit for digit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, time
from pathlib import Path
from typing import Any

from connectors.files.csv_records import checked
from connectors.files.lines import Line
from connectors.files.records import Broken, FileRecord, Reading, text_of, whole
from connectors.files.texts import refused
from streams.core.errors import optional_packages
from streams.ports.files import NO_FILE_OF_ROWS


def read(path: Path, reading: Reading) -> Iterator[FileRecord | Broken]:
    """As `reading.read`. A line is a row of the sheet."""
    rows = rows_of(path, reading.sheet or "", reading.begin)
    nothing = [""] * len(reading.columns)
    return checked((([Line(line, "")], row + nothing[len(row) :]) for line, row in rows), reading)


def sheets_of(path: Path) -> list[str]:
    """The names of the visible sheets that hold anything.

    Raises:
        RefusedError: it is no workbook.
    """
    with optional_packages("a workbook"):
        from python_calamine import SheetVisibleEnum

    with _workbook(path) as book:
        shown = [one.name for one in book.sheets_metadata if one.visible == SheetVisibleEnum.Visible]
        return [name for name in shown if _sheet(book, name).height]


def rows_of(path: Path, sheet: str, begin: int = 1) -> Iterator[tuple[int, list[str]]]:
    """The rows from number ``begin`` on, as text; empty rows are omitted."""
    with _workbook(path) as book:
        found = _sheet(book, sheet)
        first = (found.start or (0, 0))[0] + 1
        for line, row in enumerate(found.iter_rows(), first):
            if line >= begin and any(cell not in ("", None) for cell in row):
                yield line, [_text(cell) for cell in row]


@contextmanager
def _refusing(code: str, **values: object) -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # a panic of the library is no Exception
        raise refused(code, reason=NO_FILE_OF_ROWS, error=error, **values) from error


def _workbook(path: Path) -> Any:
    with optional_packages("a workbook"):
        from python_calamine import CalamineWorkbook

    with _refusing("no workbook"):
        return CalamineWorkbook.from_path(str(path))


def _sheet(book: Any, name: str) -> Any:
    with _refusing("sheet unreadable", name=name):
        return book.get_sheet_by_name(name)


def _text(cell: Any) -> str:
    if isinstance(cell, datetime) and cell.time() == time.min:
        return cell.date().isoformat()
    return "" if cell is None else text_of(whole(cell) if isinstance(cell, float) else cell)
