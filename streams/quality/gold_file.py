"""Right labels from a file, as the page or a spreadsheet saves it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Self

from connectors.files.mapping import is_null, plain
from connectors.files.reading import read
from connectors.files.records import FileRecord, text_of
from connectors.files.understand import understand
from streams.core.errors import ConfigurationError, RefusedError
from streams.core.settings import Settings
from streams.core.text import clean
from streams.ports.files import text_in
from streams.ports.review import NO_LABEL
from streams.privacy.door import opened

_COLUMNS = {
    "label": ("label", "метка"),
    "row_id": ("rowid", "id", "ид"),
    "text": ("text", "querytext", "текст"),
    "created_at": ("createdat",),
    "probability": ("drawprobability", "probability", "вероятность"),
}
# Questions about the form of the file, not about what its columns mean.
_FORM = ("encoding", "delimiter", "header", "sheet")


@dataclass(frozen=True)
class GoldRow:
    """A row and its right label, None where no label fits.

    ``created_at``: None if the file does not have it; then the id alone identifies the row. ``text``:
    cleaned, if the file has no ids; then it identifies the row. ``probability``: with which the row was
    drawn, 0 to 1; None where the file does not say. ``number``: the row's in the file, from 1.
    """

    row_id: str
    label: str | None
    created_at: datetime | None
    text: str | None = None
    probability: float | None = None
    number: int = field(default=0, compare=False)


class GoldSet(list[GoldRow]):
    """The rows with a label. ``unlabeled``: rows of the file without one. ``warnings``: what is doubtful."""

    unlabeled = 0
    warnings: Sequence[str] = ()


def read_gold(path: Path, settings: Settings | None = None) -> GoldSet:
    """The rows of a gold set in any form that `POST /upload` reads, as `GET /review/gold` returns them or as
    somebody saved them in a spreadsheet.

    The columns `row_id` and `label` are required; `created_at` distinguishes rows with one id. Without
    `row_id`, the column `text` identifies the rows. `draw_probability` tells how the rows were drawn. The
    label `no-label` says that no label fits.

    Raises:
        ConfigurationError: no such file, missing columns, or an invalid row, by its number.
    """
    rows, number = GoldSet(), 1
    try:
        found = understand(path, settings or Settings())
        if unsure := [one for one in found.questions if one.id in _FORM]:
            raise ValueError(text_in(unsure[0].about))
        columns = _Columns.of(found.reading.columns)
        for one in read(path, found.reading):
            number = one.number
            if isinstance(one, FileRecord):
                row = columns.row(one.values, number)
            elif one.field in found.reading.columns[columns.label :]:
                row = None  # a short line: the label is missing
            else:
                raise ValueError(text_in(one.detail))
            if row is None:
                rows.unlabeled += 1
            else:
                rows.append(row)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}", fix="name the file") from error
    except (RefusedError, ValueError) as error:
        if not isinstance(error, RefusedError) or error.reason != "empty":
            raise ConfigurationError(
                f"{path}, row {number}: {error}",
                fix="it needs the columns row_id (or text) and label, and times as 2026-01-31T00:00:00Z",
            ) from error
    if not rows:
        told = f": {rows.unlabeled} have no label" if rows.unlabeled else ""
        raise ConfigurationError(f"{path} holds no rows with a label{told}", fix="label some of them first")
    rows.warnings = [text_in(one) for one in found.warnings]
    return rows


async def read_masked_gold(path: Path, settings: Settings) -> GoldSet:
    """As `read_gold`, with the texts masked as stored ones are, where that is asked for. A text that cannot
    be masked is empty, and is not found.

    Raises:
        ConfigurationError: as `read_gold`, or texts cannot be masked here.
    """
    rows = await asyncio.to_thread(read_gold, path, settings)
    texts = [one.text for one in rows if one.text is not None]
    if not texts:
        return rows
    async with opened(settings) as door:
        if door is None:
            return rows
        masked = dict(zip(texts, await door.texts(texts), strict=True))
    found = GoldSet(
        one if one.text is None else dataclasses.replace(one, text=masked[one.text] or "") for one in rows
    )
    found.unlabeled, found.warnings = rows.unlabeled, rows.warnings
    return found


class _Columns(NamedTuple):
    label: int
    row_id: int | None
    text: int | None
    created_at: int | None
    probability: int | None

    @classmethod
    def of(cls, columns: Sequence[str]) -> Self:
        names = [plain(name) for name in columns]
        place = {
            role: next((names.index(name) for name in known if name in names), None)
            for role, known in _COLUMNS.items()
        }
        label, row_id, text = place["label"], place["row_id"], place["text"]
        if label is None or (row_id is None and text is None):
            raise ValueError(f"no column {'label' if label is None else 'row_id'} among {list(columns)}")
        return cls(label, row_id, text, place["created_at"], place["probability"])

    def row(self, values: Sequence[Any], number: int) -> GoldRow | None:
        """None without a label."""
        label, row_id, text, at, chance = (
            None if place is None or is_null(values[place]) else text_of(values[place]).strip()
            for place in self
        )
        if not label:
            return None
        right = None if label == NO_LABEL else label
        if self.row_id is None:
            if not text:
                raise ValueError("the row has a label and no text")
            return GoldRow("", right, None, clean(text), _probability(chance), number)
        if not row_id:
            raise ValueError("the row has a label and no row_id")
        return GoldRow(row_id, right, _moment(at) if at else None, None, _probability(chance), number)


def _moment(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError(f"{text} has no zone")
    return found.astimezone(UTC)


def _probability(text: str | None) -> float | None:
    if text is None or not text:
        return None
    found = float(text.replace(",", "."))
    if not 0 < found <= 1:
        raise ValueError(f"{text} is no probability above 0 and at most 1")
    return found
