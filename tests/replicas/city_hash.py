"""CityHash128 with a seed, version 1.0.2: what ClickHouse's servers check handed-over files by."""

from __future__ import annotations

import struct

_MASK = (1 << 64) - 1
_K0, _K1, _K2, _K3 = 0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F, 0xC949D7C7509E6557
_MUL = 0x9DDFEA08EB382D69

Pair = tuple[int, int]


def city_hash_128(data: bytes, seed: Pair) -> Pair:
    """The hash of ``data``: its low and its high half, as ``seed`` has them."""
    if len(data) < 128:
        return _short(data, seed)
    x, y = seed
    z = len(data) * _K1 & _MASK
    v0 = _rotated(y ^ _K1, 49) * _K1 + _u64(data, 0) & _MASK
    v1 = _rotated(v0, 42) * _K1 + _u64(data, 8) & _MASK
    w0 = _rotated(y + z, 35) * _K1 + x & _MASK
    w1 = _rotated(x + _u64(data, 88), 53) * _K1 & _MASK
    at, left = 0, len(data)
    while left >= 128:
        for _ in range(2):
            x = _rotated(x + y + v0 + _u64(data, at + 16), 37) * _K1 & _MASK ^ w1
            y = _rotated(y + v1 + _u64(data, at + 48), 42) * _K1 & _MASK ^ v0
            z = _rotated(z ^ w0, 33)
            v0, v1 = _weak(data, at, v1 * _K1, x + w0)
            w0, w1 = _weak(data, at + 32, z + w1, y)
            x, z, at = z, x, at + 64
        left -= 128
    y = y + _rotated(w0, 37) * _K0 + z & _MASK
    x = x + _rotated(v0 + z, 49) * _K0 & _MASK
    for done in range(32, left + 32, 32):
        begin = at + left - done
        y = _rotated(y - x, 42) * _K0 + v1 & _MASK
        w0 = w0 + _u64(data, begin + 16) & _MASK
        x = _rotated(x, 49) * _K0 + w0 & _MASK
        w0 = w0 + v0 & _MASK
        v0, v1 = _weak(data, begin, v0, v1)
    x, y = _mixed(x, v0), _mixed(y, w0)
    return _mixed(x + v1, w1) + y & _MASK, _mixed(x + w1, y + v1)


def _short(data: bytes, seed: Pair) -> Pair:
    a, b = seed
    size = len(data)
    if size <= 16:
        c = b * _K1 + _tiny(data) & _MASK
        a = _shifted(a * _K1) * _K1 & _MASK
        d = _shifted(a + (_u64(data, 0) if size >= 8 else c))
    else:
        c = _mixed(_u64(data, size - 8) + _K1, a)
        d = _mixed(b + size, c + _u64(data, size - 16))
        a = a + d & _MASK
        for at in range(0, size - 16, 16):
            a = (a ^ _shifted(_u64(data, at) * _K1) * _K1 & _MASK) * _K1 & _MASK
            b ^= a
            c = (c ^ _shifted(_u64(data, at + 8) * _K1) * _K1 & _MASK) * _K1 & _MASK
            d ^= c
    a, b = _mixed(a, c), _mixed(d, b)
    return a ^ b, _mixed(b, a)


def _tiny(data: bytes) -> int:
    size = len(data)
    if size > 8:
        first, last = _u64(data, 0), _u64(data, size - 8)
        return _mixed(first, _rotated(last + size, size)) ^ last
    if size >= 4:
        (first,), (last,) = struct.unpack_from("<I", data), struct.unpack_from("<I", data, size - 4)
        return _mixed(size + (first << 3), last)
    if size:
        low, high = data[0] + (data[size >> 1] << 8), size + (data[-1] << 2)
        return _shifted(low * _K2 & _MASK ^ high * _K3 & _MASK) * _K2 & _MASK
    return _K2


def _weak(data: bytes, at: int, a: int, b: int) -> Pair:
    w, x, y, z = struct.unpack_from("<4Q", data, at)
    a = a + w & _MASK
    b = _rotated(b + a + z, 21)
    c, a = a, a + x + y & _MASK
    return a + z & _MASK, b + _rotated(a, 44) + c & _MASK


def _mixed(u: int, v: int) -> int:
    u, v = u & _MASK, v & _MASK
    a = _shifted((u ^ v) * _MUL)
    return _shifted((v ^ a) * _MUL) * _MUL & _MASK


def _shifted(value: int) -> int:
    value &= _MASK
    return value ^ value >> 47


def _rotated(value: int, by: int) -> int:
    value &= _MASK
    return (value >> by | value << 64 - by) & _MASK


def _u64(data: bytes, at: int) -> int:
    found: int = struct.unpack_from("<Q", data, at)[0]
    return found
