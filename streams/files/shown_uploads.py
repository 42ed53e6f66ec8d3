"""What the API tells of an uploaded file: its first rows as they would be published."""

from __future__ import annotations

from typing import Any

from connectors.files.uploads import Upload
from streams.privacy.door import Door, PlainFields

_KEPT = 500


class ShownUploads:
    """Describes uploads. ``door``: masks the name and the first rows, where personal data is masked."""

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


async def _masked(door: Door, told: dict[str, Any]) -> dict[str, Any]:
    """Name and first rows of ``told`` without personal data; ids as pseudonyms."""
    rows, mapping = told["first_rows"], told["mapping"]
    user, session = mapping.get("user"), mapping.get("session")
    ids = await door.fields([PlainFields("", row.get(user), row.get(session), None) for row in rows])
    cells = list(dict.fromkeys(cell for row in rows for cell in row.values() if cell))
    name, *texts = await door.texts([told["name"], *cells])
    shown = dict(zip(cells, texts, strict=True))
    return {
        "name": name or "",
        "first_rows": [
            {column: shown.get(cell, cell) if cell else cell for column, cell in row.items()}
            | ({user: id_ and id_.user} if user else {})
            | ({session: id_ and id_.session} if session else {})
            for row, id_ in zip(rows, ids, strict=True)
        ],
    }
