"""An upload is shown as its rows would be published."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from connectors.files.uploads import Upload, Uploads
from streams.core.settings import Settings
from streams.files.shown_uploads import ShownUploads
from streams.privacy.pseudonyms import is_pseudonym
from tests.unit.streams.privacy.fakes import make_door

TEXT = "где заказ, мой телефон +7 912 345-67-89"


async def stored(folder: Path) -> Upload:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"text,ts,user_id,note\n"
        yield f'"{TEXT}",2026-03-01 12:00:00,4711,ivan@mail.ru\n'.encode()
        yield b"unmaskable,2026-03-01 12:00:00,,\n"

    upload, _ = await Uploads(Settings(labelstream_data=folder)).receive(pieces(), "4276 1234 5678 9010.csv")
    return upload


async def test_its_first_rows_and_its_name_are_masked(tmp_path: Path) -> None:
    shown = ShownUploads(make_door())
    for _ in range(2):
        told = await shown.describe(await stored(tmp_path))
        first, second = told["first_rows"]
        assert is_pseudonym(first["user_id"])
        assert first | {"user_id": None} == {
            "text": "где заказ, мой телефон [ТЕЛЕФОН]",
            "ts": "2026-03-01 12:00:00",
            "user_id": None,
            "note": "[ПОЧТА]",
        }
        assert (second["text"], second["user_id"] or "") == (None, "")
        assert (told["name"], told["rows"]) == ("[КАРТА].csv", 2)


async def test_without_masking_it_is_shown_as_it_is(tmp_path: Path) -> None:
    told = await ShownUploads(None).describe(await stored(tmp_path))
    assert told["first_rows"][0]["text"] == TEXT
