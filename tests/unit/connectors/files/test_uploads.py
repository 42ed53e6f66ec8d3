"""Files that cannot be stored: a full disk, a lost connection, a client that goes away."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import IO, Any

import pytest

from connectors.files.uploads import Uploads
from streams.core.errors import UnavailableError
from streams.core.settings import Settings
from tests.waiting import PATIENCE


def open_by(monkeypatch: pytest.MonkeyPatch, writer: Callable[[], IO[bytes]]) -> None:
    """What is uploaded goes to ``writer`` instead of the disk."""
    real = Path.open

    def opened(path: Path, mode: str = "r", *args: Any, **more: Any) -> IO[Any]:
        return writer() if mode == "wb" else real(path, mode, *args, **more)

    monkeypatch.setattr(Path, "open", opened)


@pytest.mark.parametrize("size", [10, 1_000_000])
async def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"x" * size

    open_by(monkeypatch, lambda: io.BufferedWriter(io.FileIO("/dev/full", "w")))
    with pytest.raises(UnavailableError, match="No space left"):
        await Uploads(Settings(labelstream_data=tmp_path)).receive(pieces(), "a")


async def test_a_lost_connection_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"text\n"
        raise ConnectionResetError("lost")

    open_by(monkeypatch, lambda: io.BufferedWriter(io.FileIO("/dev/full", "w")))
    with pytest.raises(ConnectionResetError, match="lost"):
        await Uploads(Settings(labelstream_data=tmp_path)).receive(pieces(), "a")


async def test_a_cancelled_upload_stops_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started, release = threading.Event(), threading.Event()
    released: list[bool] = []

    class Slow(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, piece: Any) -> int:
            started.set()
            released.append(release.wait(PATIENCE))
            return len(piece)

    async def pieces() -> AsyncIterator[bytes]:
        yield b"x" * 1_000_000

    open_by(monkeypatch, lambda: io.BufferedWriter(Slow()))
    task = asyncio.create_task(Uploads(Settings(labelstream_data=tmp_path)).receive(pieces(), "a"))
    await asyncio.to_thread(started.wait)
    task.cancel()
    asyncio.get_running_loop().call_later(0.01, release.set)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert released[0], "the event loop waited for the write"
