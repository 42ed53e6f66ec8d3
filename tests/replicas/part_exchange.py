"""Hands the parts of one replica over to the others, in the protocol that servers use between each other.

The engine asks for parts by itself; it only cannot answer, as it is no server. What is faulty here is meant
to be: files in the replica's folder say so. `held`: nothing is handed over; `slow`: so many seconds at most,
drawn anew for each part, so that parts arrive in another order.
"""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, urlsplit

from tests.replicas.city_hash import city_hash_128

_VERSION = 8
_BLOCK = 2048
_NO_UUID = b"00000000-0000-0000-0000-000000000000"


def serve_parts(port: int, folder: Path, path_of: Callable[[str], Path]) -> None:
    """Serve in a thread. ``path_of``: the folder of a table, by its replica's path in ZooKeeper."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = parse_qs(urlsplit(self.path).query)
            replica, part = asked["endpoint"][0].partition(":")[2], asked["part"][0]
            try:
                if (folder / "held").exists():
                    raise OSError("held")
                if (slow := folder / "slow").exists():
                    time.sleep(random.uniform(0, float(slow.read_text() or 0)))
                body = b"".join(_message(path_of(replica) / part))
            except OSError as error:
                self.send_response(500)
                self.end_headers()
                self.wfile.write(str(error).encode())
                return
            self.send_response(200)
            self.send_header("Set-Cookie", f"server_protocol_version={_VERSION}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    Thread(target=server.serve_forever, daemon=True).start()


def _message(part: Path) -> Iterator[bytes]:
    files = [file for file in part.rglob("*") if file.is_file()]
    yield struct.pack("<Q", sum(file.stat().st_size for file in files))
    ttl = part / "ttl.txt"
    yield _text(ttl.read_bytes() if ttl.exists() else b"ttl format version: 1\n{}")
    yield _text(b"Compact" if (part / "data.bin").exists() else b"Wide")
    yield _NO_UUID
    projections = sorted(part.glob("*.proj"))
    yield struct.pack("<Q", len(projections))
    for projection in projections:
        yield _text(projection.stem.encode())
        yield from _files(projection)
    yield from _files(part)


def _files(folder: Path) -> Iterator[bytes]:
    found = sorted(file for file in folder.iterdir() if file.is_file())
    if not any(file.name == "checksums.txt" for file in found):
        raise OSError(f"{folder} is not whole")
    yield struct.pack("<Q", len(found))
    for file in found:
        content = file.read_bytes()
        yield _text(file.name.encode())
        yield struct.pack("<Q", len(content))
        yield content
        yield _hash(content)


def _text(content: bytes) -> bytes:
    size, length = len(content), bytearray()
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return bytes(length) + content


def _hash(content: bytes) -> bytes:
    """As the receiver calculates it: block by block, each with the hash of those before it."""
    state = (0, 0)
    for start in range(0, len(content), _BLOCK):
        state = city_hash_128(content[start : start + _BLOCK], state)
    return struct.pack("<QQ", *state)
