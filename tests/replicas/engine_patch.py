"""Lets the engine of chdb replicate: three functions of it are replaced in this process's memory.

The library holds all of ClickHouse's replication, but as it is no server, nobody has told it under which
address other replicas reach it. `getInterserverIOAddress`, `getInterserverScheme` and
`getInterserverCredentials` read what was never set, and a replicated table stays read-only. Here they return
constants. All else is the engine's own: its log and its tokens in ZooKeeper, quorum, queue and fetches.

The places are those of one build of the library; another one is refused.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import struct

_HOST = b"127.0.0.1"
# Offset from the library's beginning, and the code that is there.
_ADDRESS = 0x147217C0, bytes.fromhex("4156534883ec484c8b36")
_SCHEME = 0x147218C0, bytes.fromhex("488b0680b887010000")
_CREDENTIALS = 0x14721740, bytes.fromhex("41574156534c8b3f")
_RETURN = b"\x48\x89\xf8\xc3"  # mov rax, rdi; ret
_LIBRARY = "_chdb.abi3.so"
# Empty user and password: an object of strings and lists without content is all zeros.
_nobody = ctypes.create_string_buffer(512)


class OtherBuildError(Exception):
    """The library is not the build whose places are known."""


def let_replicate(port: int) -> None:
    """Other replicas reach this process on ``port`` of 127.0.0.1.

    Raises:
        OtherBuildError.
    """
    if platform.machine() != "x86_64":
        raise OtherBuildError(platform.machine())
    import chdb._chdb  # noqa: F401

    begin = _begin()
    address = _string(_HOST) + b"\x66\xc7\x47\x18" + struct.pack("<H", port) + _RETURN
    _replace(begin, _ADDRESS, address)
    _replace(begin, _SCHEME, _string(b"http") + _RETURN)
    pointer = b"\x48\xb8" + struct.pack("<Q", ctypes.addressof(_nobody)) + b"\x31\xd2\xc3"
    _replace(begin, _CREDENTIALS, pointer)


def _begin() -> int:
    with open("/proc/self/maps") as maps:
        for line in maps:
            fields = line.split()
            if fields[-1].endswith(_LIBRARY) and int(fields[2], 16) == 0:
                return int(fields[0].partition("-")[0], 16)
    raise OtherBuildError(f"{_LIBRARY} is not loaded")


def _string(text: bytes) -> bytes:
    """Code that makes a short string of ``text`` where rdi points to."""
    whole = text.ljust(23, b"\0") + bytes([len(text)])
    stores = (b"\x48\x89\x07", b"\x48\x89\x47\x08", b"\x48\x89\x47\x10")
    return b"".join(
        b"\x48\xb8" + whole[8 * number : 8 * number + 8] + store for number, store in enumerate(stores)
    )


def _replace(begin: int, place: tuple[int, bytes], code: bytes) -> None:
    offset, expected = place
    at = begin + offset
    if ctypes.string_at(at, len(expected)) != expected:
        raise OtherBuildError("chdb is another version: look its functions up again")
    libc = ctypes.CDLL(None, use_errno=True)
    page = ctypes.c_void_p(at & ~(mmap.PAGESIZE - 1))
    for step in (mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC, mmap.PROT_READ | mmap.PROT_EXEC):
        if libc.mprotect(page, 2 * mmap.PAGESIZE, step):
            raise OtherBuildError("the library's memory cannot be changed here")
        if step & mmap.PROT_WRITE:
            ctypes.memmove(at, code, len(code))
