"""The file in a multipart form, piece by piece: a form of gigabytes is never whole in memory or in /tmp."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from email.message import Message

from connectors.api.problems import Problem

_LONGEST_HEADERS = 16_384
_END = b"\r\n\r\n"
_BOUNDARY = re.compile(r"^[0-9A-Za-z'()+_,\-./:=? ]{1,70}$")


def boundary_of(content_type: str) -> str | None:
    """The boundary of a multipart form; None if this is none.

    Raises:
        Problem: 400, a form without a boundary.
    """
    message = Message()
    message["content-type"] = content_type
    if message.get_content_type() != "multipart/form-data":
        return None
    boundary = message.get_param("boundary")
    if not isinstance(boundary, str) or not _BOUNDARY.match(boundary):
        raise Problem(400, "the form has no boundary", code="bad-form")
    return boundary


class MultipartForm:
    """Finds the form's first file. ``name``: the client's name of it, known once pieces arrive."""

    def __init__(self, pieces: AsyncIterator[bytes], boundary: str) -> None:
        self.name = ""
        self._pieces = pieces
        self._mark = b"\r\n--" + boundary.encode()
        # As if a line ended before the first boundary: then all boundaries look alike.
        self._held = b"\r\n"
        self._ended = False

    async def file(self, field: str = "file") -> AsyncIterator[bytes]:
        """The content of the part called ``field``.

        Raises:
            Problem: 400 for an invalid form, 422 for one without the file.
        """
        await self._until(self._mark, None)
        while True:
            line = await self._until(b"\r\n", _LONGEST_HEADERS, more=b"--")
            if line.startswith(b"--"):
                raise Problem(422, f"the form has no file in a field called {field!r}", code="no-file")
            name, filename = _named(await self._headers())
            if name != field:
                async for _ in self._part():
                    pass
                continue
            self.name = filename
            async for piece in self._part():
                yield piece
            break
        async for _ in self._pieces:  # the parts after it
            pass

    async def _headers(self) -> bytes:
        if self._held.startswith(b"\r\n") or await self._starts_with(b"\r\n"):
            self._held = self._held[2:]
            return b""
        return await self._until(_END, _LONGEST_HEADERS)

    async def _part(self) -> AsyncIterator[bytes]:
        """Everything up to the next boundary, which is consumed too."""
        keep = len(self._mark) - 1
        while (at := self._held.find(self._mark)) < 0:
            if len(self._held) > keep:
                ready, self._held = self._held[:-keep], self._held[-keep:]
                yield ready
            await self._more()
        ready, self._held = self._held[:at], self._held[at + len(self._mark) :]
        if ready:
            yield ready

    async def _until(self, mark: bytes, most: int | None, more: bytes = b"") -> bytes:
        """The bytes before ``mark``, which is consumed too; or ``more``, if the rest begins with it."""
        while True:
            if more and self._held.startswith(more):
                return more
            if (at := self._held.find(mark)) >= 0:
                found, self._held = self._held[:at], self._held[at + len(mark) :]
                return found
            if most is not None and len(self._held) > most:
                raise Problem(400, "the form's headers are too long", code="bad-form")
            if most is None:
                self._held = self._held[-len(mark) :]
            await self._more()

    async def _starts_with(self, start: bytes) -> bool:
        while len(self._held) < len(start):
            await self._more()
        return self._held.startswith(start)

    async def _more(self) -> None:
        piece = await anext(self._pieces, None)
        if piece is None:
            raise Problem(400, "the form ends before its end", code="bad-form")
        self._held += piece


def _named(headers: bytes) -> tuple[str, str]:
    """The field's name, and its file's."""
    for line in headers.decode("utf-8", "replace").split("\r\n"):
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-disposition":
            message = Message()
            message["content-disposition"] = value.strip()
            return (
                _text(message.get_param("name", header="content-disposition")),
                _text(message.get_param("filename", header="content-disposition")),
            )
    return "", ""


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
