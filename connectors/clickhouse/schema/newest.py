"""Of several messages of one row and version, the newest counts.

A row may have more than one label under a version: a person corrects or takes back a label, a dead letter is
retried, a replay is repeated. The newest has the latest time and, if two have the same one, the largest
offset: all messages about a row are in one partition, in the order in which they were made.
"""

from __future__ import annotations

# Microseconds from the first time of a DateTime64 (1900) to 1970.
_BEFORE_1970 = 2_208_988_800_000_000
# Times until 2299 and offsets need fewer bits.
_BITS = 56
# The rest of 128 bits, for `ranked`.
HIGHEST_RANK = (1 << 16) - 1


def newest_first(time: str) -> str:
    """For ORDER BY. ``time``: the column, `labeled_at` or `augmented_at`."""
    return f"{time} DESC, _offset DESC"


def newness(time: str) -> str:
    """For argMax: one UInt128 in the same order; a tuple would make argMax three times as slow."""
    moment = f"toUInt128(toUInt64(toUnixTimestamp64Micro({time}) + {_BEFORE_1970}))"
    return f"bitOr(bitShiftLeft({moment}, {_BITS}), toUInt128(toUInt64(_offset)))"


def ranked(rank: str, time: str) -> str:
    """As `newness`, but ``rank``, a number from 0 to HIGHEST_RANK, takes precedence over the time."""
    return f"bitOr(bitShiftLeft(toUInt128(toUInt16({rank})), {2 * _BITS}), {newness(time)})"
