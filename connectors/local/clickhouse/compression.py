"""Compression of HTTP bodies, in both directions.

A request body may consist of several compressed frames (clickhouse-connect sends one for each block). A
decoder that stops after the first one would lose rows without an error.
"""

import zlib
from collections.abc import Callable
from typing import Any, Protocol

import lz4.frame
import zstandard

from connectors.local.clickhouse.errors import EngineError


class Encoder(Protocol):
    def compress(self, data: bytes) -> bytes: ...

    def flush(self) -> bytes: ...


_DECODERS: dict[str, Callable[[], Any]] = {
    "gzip": lambda: zlib.decompressobj(31),
    "deflate": lambda: zlib.decompressobj(15),
    "zstd": lambda: zstandard.ZstdDecompressor().decompressobj(),
    "lz4": lz4.frame.LZ4FrameDecompressor,
}


class Decoder:
    """Decodes a body of any number of frames, piece by piece. Raises EngineError 271 when damaged."""

    def __init__(self, encoding: str) -> None:
        self._new = _DECODERS.get(encoding)
        if self._new is None and encoding not in ("", "identity"):
            raise EngineError(48, f"Content-Encoding {encoding} is not supported", "NOT_IMPLEMENTED")
        self._frame: Any = None

    def decode(self, data: bytes) -> bytes:
        """The plain bytes of ``data``, the next piece of the body."""
        if self._new is None:
            return data
        plain = []
        try:
            while data:
                if self._frame is None:
                    self._frame = self._new()
                plain.append(self._frame.decompress(data))
                data = b""
                if self._frame.eof:
                    data = self._frame.unused_data or b""
                    self._frame = None
        except (zlib.error, zstandard.ZstdError, RuntimeError, EOFError) as error:
            raise EngineError(
                271, f"Cannot decompress the request body: {error}", "CANNOT_DECOMPRESS"
            ) from error
        return b"".join(plain)

    def finish(self) -> None:
        """Call at the end of the body: a truncated frame is an error."""
        if self._frame is not None:
            raise EngineError(
                271, "Cannot decompress the request body: it ends within a frame", "CANNOT_DECOMPRESS"
            )


class _Lz4Encoder:
    def __init__(self) -> None:
        self._frame = lz4.frame.LZ4FrameCompressor()
        self._begun = False

    def compress(self, data: bytes) -> bytes:
        head = b"" if self._begun else self._frame.begin()
        self._begun = True
        return bytes(head + self._frame.compress(data))

    def flush(self) -> bytes:
        head = b"" if self._begun else self._frame.begin()
        return bytes(head + self._frame.flush())


def choose_encoder(accepted: str) -> tuple[str, Encoder] | None:
    """The first encoding of an Accept-Encoding header that the front has, and an encoder; None for plain."""
    for offer in accepted.split(","):
        name = offer.split(";")[0].strip().lower()
        if name == "lz4":
            return name, _Lz4Encoder()
        if name == "zstd":
            return name, zstandard.ZstdCompressor(level=1).compressobj()
        if name == "gzip":
            return name, zlib.compressobj(1, zlib.DEFLATED, 31)
        if name == "deflate":
            return name, zlib.compressobj(1, zlib.DEFLATED, 15)
    return None
