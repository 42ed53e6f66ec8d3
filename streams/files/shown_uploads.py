"""What the API tells of an uploaded file: its first rows as they would be published, and what is not
certain about it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from connectors.files.uploads import SHOWN_CHARACTERS, Upload
from streams.privacy.door import Door, PlainFields

_KEPT = 500
# Where a cell is cut there may be a part of a number or a name, which nothing recognises.
_CUT = re.compile(r"[\W\d_]*\w*$")


class ShownUploads:
    """Describes uploads. ``door``: masks the name, the first rows, and what was quoted of the file before
    personal data was masked.
    """

    def __init__(self, door: Door | None) -> None:
        self._door = door
        self._masked: dict[str, dict[str, Any]] = {}  # of the last files, as a list is asked for again

    async def describe(self, upload: Upload) -> dict[str, Any]:
        """For the API. A cell that cannot be masked is null."""
        told = upload.as_dict()
        if self._door is None:
            return told
        key = f"{upload.file_id} {upload.mapping} {upload.reading}"
        if key not in self._masked:
            if len(self._masked) >= _KEPT:
                del self._masked[next(iter(self._masked))]
            self._masked[key] = await _masked(self._door, told)
        return told | self._masked[key]


async def personal_names(columns: Sequence[str], door: Door | None) -> dict[str, str]:
    """The names that have personal data, each with what is shown of it: the first row was taken for them."""
    if door is None:
        return {}
    masked = await door.texts(list(columns))
    return {name: one or "…" for name, one in zip(columns, masked, strict=True) if one != name}


async def _masked(door: Door, told: dict[str, Any]) -> dict[str, Any]:
    """What of ``told`` quotes the file, without personal data; ids as pseudonyms."""
    rows, mapping = told["first_rows"], told["mapping"]
    user, session = mapping.get("user"), mapping.get("session")
    plain = [PlainFields("", row.get(user), row.get(session), None) for row in rows]
    ids = await door.fields(plain, from_source=False)
    cells = list(dict.fromkeys(cell for row in rows for cell in row.values() if cell))
    name, *texts = await door.texts([told["name"], *map(_whole, cells)])
    shown = dict(zip(cells, texts, strict=True))
    abouts = [one["about"] for one in told["questions"]]
    warnings, abouts = await _texts(door, told["warnings"]), await _texts(door, abouts)
    names = await personal_names(told["columns"], door)

    def named(column: str) -> str:
        return names.get(column, column)

    return {
        "name": name or "",
        "columns": [named(column) for column in told["columns"]],
        "mapping": {role: named(column) for role, column in mapping.items()},
        "warnings": warnings,
        "questions": [
            {
                **one,
                "about": about,
                "choices": [named(choice) for choice in one["choices"]],
                "guess": named(one["guess"]),
            }
            for one, about in zip(told["questions"], abouts, strict=True)
        ],
        "first_rows": [
            {named(column): shown.get(cell, cell) if cell else cell for column, cell in row.items()}
            | ({named(user): id_ and id_.user} if user else {})
            | ({named(session): id_ and id_.session} if session else {})
            for row, id_ in zip(rows, ids, strict=True)
        ],
    }


def _whole(cell: str) -> str:
    return cell if len(cell) < SHOWN_CHARACTERS else _CUT.sub("…", cell, count=1)


async def _texts(door: Door, texts: list[Any]) -> list[Any]:
    """Each in the languages that it has."""
    found = []
    for text in texts:
        told = text if isinstance(text, dict) else {"": text}
        masked = [one or "…" for one in await door.texts(list(told.values()))]
        found.append(dict(zip(told, masked, strict=True)) if isinstance(text, dict) else masked[0])
    return found
