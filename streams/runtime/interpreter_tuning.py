"""The interpreter of a process whose messages must not wait for it."""

from __future__ import annotations

import gc
import sys

_SWITCH_SECONDS = 0.0003
_YOUNG_OBJECTS, _OLDER = 10_000, 20


def for_short_waits() -> None:
    """Once, when everything is built: the process is not held up by its own interpreter for long.

    What is there stays: the garbage collector would look through it again and again, for a tenth of a second
    each time. And a thread that waits for the interpreter asks for it sooner than after the usual 5 ms: a
    fetch takes the consumer's thread some five turns, each behind the busy event loop.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, _OLDER, _OLDER)
    sys.setswitchinterval(_SWITCH_SECONDS)
