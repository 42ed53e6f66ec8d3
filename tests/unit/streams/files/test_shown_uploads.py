"""An upload is shown as its rows would be published."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from connectors.files.uploads import SHOWN_CHARACTERS, Upload, Uploads
from streams.core.settings import Settings
from streams.files.shown_uploads import ShownUploads, personal_names
from streams.privacy.pseudonyms import is_pseudonym
from tests.unit.streams.privacy.fakes import SECRET, make_door

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


async def test_neither_warnings_nor_a_cell_that_is_cut_quote_what_is_personal(tmp_path: Path) -> None:
    upload = await stored(tmp_path)
    cut = (TEXT + "x" * 500)[: len(TEXT) - 3].rjust(SHOWN_CHARACTERS, "y")
    older = upload.model_copy(
        update={
            "warnings": [{"en": f"like a total: {TEXT!r}", "ru": "итог"}, TEXT],
            "sample": [[cut, None, None, None]],
        }
    )
    told = await ShownUploads(make_door()).describe(older)
    assert told["warnings"] == [
        {"en": "like a total: 'где заказ, мой телефон [ТЕЛЕФОН]'", "ru": "итог"},
        "где заказ, мой телефон [ТЕЛЕФОН]",
    ]
    assert told["first_rows"][0]["text"].endswith("мой телефон…")


@pytest.mark.parametrize("privacy", ["off", "mask"])
async def test_what_is_said_of_a_file_quotes_it_only_where_nothing_is_masked(
    tmp_path: Path, privacy: Any
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield "Звонки +7 912 345-67-89\n\ntext;user\nпервый текст;1\nвторой текст;2\n".encode()
        yield "Итого: +7 912 345-67-89;\n".encode()

    settings = Settings(labelstream_data=tmp_path, privacy=privacy, privacy_secret=SecretStr(SECRET))
    upload, _ = await Uploads(settings).receive(pieces(), "calls.csv")
    assert len(upload.warnings) >= 2
    assert ("345-67" in str(upload.warnings)) == (privacy == "off")


async def test_a_row_that_was_taken_for_names_is_not_shown(tmp_path: Path) -> None:
    upload = await stored(tmp_path)
    columns = ("+7 912 345-67-89", *upload.reading.columns[1:])
    reading = upload.reading.model_copy(update={"columns": columns})
    odd = upload.model_copy(update={"reading": reading, "mapping": {"text": columns[0]}})
    told = await ShownUploads(make_door()).describe(odd)
    assert "345-67" not in str(told)
    assert (told["columns"][0], told["mapping"]) == ("[ТЕЛЕФОН]", {"text": "[ТЕЛЕФОН]"})
    assert await personal_names(columns, make_door()) == {columns[0]: "[ТЕЛЕФОН]"}
    assert await personal_names(columns, None) == {}


async def test_without_masking_it_is_shown_as_it_is(tmp_path: Path) -> None:
    told = await ShownUploads(None).describe(await stored(tmp_path))
    assert told["first_rows"][0]["text"] == TEXT
