"""Tunes the Python interpreter for short waits."""

from __future__ import annotations

import gc
import sys

_SWITCH_SECONDS = 0.0003
_YOUNG_OBJECTS, _OLDER = 10_000, 20


def for_short_waits() -> None:
    """Reduce the pauses that the interpreter causes. Call once, when everything is built.

    Existing objects are frozen: otherwise the garbage collector would scan them again and again, for a tenth
    of a second each time. And a waiting thread requests the interpreter earlier than after the usual 5 ms: a
    fetch needs the interpreter some five times in the consumer's thread, each time behind the busy event
    loop.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, _OLDER, _OLDER)
    sys.setswitchinterval(_SWITCH_SECONDS)
