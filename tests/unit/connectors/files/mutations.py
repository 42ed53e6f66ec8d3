"""Files by chance: those of strangers, cut, joined, damaged; each may be refused, none may break anything.

python -m tests.unit.connectors.files.mutations --count 10000
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import get_args

from connectors.files.uploads import Chosen, Uploads
from streams.core.errors import RefusedError
from streams.core.settings import Settings
from streams.ports.files import CODE_PAGES, Encoding
from tests.unit.connectors.files.strangers import STRANGERS

SHARED = Path("tests/data/strangers")
_PIECES = [
    *(
        b"\x00",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\xff",
        b"\r",
        b"\n",
        b"\t",
        b'"',
        b"'",
        b"\\",
        b"\\N",
        b";",
        b",",
        b"|",
    ),
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b"NaN",
        b"1e999",
        b"9" * 400,
        b"\\ud83d",
        b"PK\x03\x04",
        b"PAR1",
        b"\x1f\x8b",
    ),
    *(
        b"31.01.2026",
        b"99/99/9999",
        b"0001-01-01",
        b"24:61",
        b"sep=",
        "№".encode(),
        "я".encode("utf-16"),
        b"=",
        b"\x1f",
    ),
]


def seeds() -> list[bytes]:
    """What is mutated."""
    return [one.content for one in STRANGERS.values() if len(one.content) < 100_000] + [
        path.read_bytes() for path in sorted(SHARED.iterdir())
    ]


def mutated(content: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """``content`` with one to five changes."""
    found = bytearray(content)
    for _ in range(chance.randint(1, 5)):
        at = chance.randrange(len(found) + 1)
        end = min(len(found), at + chance.choice([1, 2, 8, 100, 1000]))
        match chance.randrange(8):
            case 0:
                found[at:at] = chance.choice(_PIECES) * chance.choice([1, 1, 2, 50])
            case 1:
                del found[at:end]
            case 2:
                found[at:end] = found[at:end] * 2
            case 3:
                found[at:end] = chance.randbytes(end - at)
            case 4:
                del found[at:]
            case 5:
                other = chance.choice(others)
                begin = chance.randrange(len(other) + 1)
                found[at:at] = other[begin : begin + chance.choice([10, 300, 5000])]
            case 6:
                old, new = chance.choice(_PIECES), chance.choice(_PIECES)
                found = bytearray(bytes(found).replace(old, new)[:200_000])
            case _:
                found[at:end] = bytes(byte ^ 1 << chance.randrange(8) for byte in found[at:end])
    return bytes(found)


async def judge(folder: Path, content: bytes, chance: random.Random) -> str:
    """What becomes of a file: `read`, or the reason of its refusal. A file that is read is looked at in
    another way, too.

    Raises:
        whatever an upload may not raise.
    """

    async def pieces() -> AsyncIterator[bytes]:
        yield content

    uploads = Uploads(Settings(labelstream_data=folder, api_upload_bytes=5_000_000))
    try:
        upload, _ = await uploads.receive(pieces(), "a")
        json.dumps(upload.as_dict(), ensure_ascii=False).encode()
        for question in upload.questions:
            for choice in question.choices[:4]:
                try:
                    await uploads.shown(upload.file_id, Chosen(answers={question.id: choice}))
                except RefusedError as error:
                    if error.reason == "answers":
                        raise AssertionError(f"{choice} answers {question}") from error
        with contextlib.suppress(RefusedError):
            await uploads.shown(upload.file_id, _choice(chance))
        return "read"
    except RefusedError as error:
        str(error).encode()  # it is sent
        return error.reason


def _choice(chance: random.Random) -> Chosen:
    return Chosen(
        chance.choice([None, *get_args(get_args(Encoding)[0]), *CODE_PAGES]),
        chance.choice([None, *",;\t|^ \\\x1fя'"]),
        chance.choice([None, True, False]),
    )


def main() -> None:
    """Print what became of the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**9))
    given = parser.parse_args()
    others, counts = seeds(), Counter[str]()
    for number in range(given.count):
        chance = random.Random(f"{given.seed}/{number}")
        content = mutated(others[number % len(others)], others, chance)
        with tempfile.TemporaryDirectory() as folder:
            try:
                counts[asyncio.run(judge(Path(folder), content, chance))] += 1
            except BaseException:
                kept = Path(tempfile.gettempdir()) / f"file-{given.seed}-{number}"
                kept.write_bytes(content)
                print(f"seed {given.seed}, file {number}, kept as {kept}; before it: {dict(counts)}")
                raise
    print(json.dumps({"seed": given.seed, "files": given.count, **counts}))


if __name__ == "__main__":
    main()
