"""A process that masks texts for `pool.py`.

A line on standard input is a JSON list of texts, a line on standard output the list of masked ones with their
counts, null for one that cannot be masked. It ends with its input.

Nothing of a text is written anywhere else: not to a log, and not with an error.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import orjson

from streams.core.errors import ConfigurationError
from streams.privacy.entities import Entity
from streams.privacy.masking import Masker

# CPU seconds for a text, and for each of its characters: some ten times what the slowest ones take. A batch
# of slow ones still answers within the pool's patience.
_SECONDS, _SECONDS_A_CHARACTER, _MOST_SECONDS = 1.0, 2e-4, 50.0


class _TooLongError(Exception):
    """A text takes so long that it was made to."""


def main(entities: str) -> None:
    """Mask ``entities``, comma separated, until the input ends."""
    try:
        masker = Masker(frozenset(Entity(name) for name in entities.split(",") if name))
    except ConfigurationError as error:
        _tell({"error": str(error), "setting": error.setting, "fix": error.fix})
        return
    _tell({"ready": True})
    for line in sys.stdin.buffer:
        _tell([_masked(masker, text) for text in orjson.loads(line)])


def _masked(masker: Masker, text: str, seconds: float = _SECONDS) -> tuple[str, dict[str, int]] | None:
    try:
        with _limited(min(seconds + len(text) * _SECONDS_A_CHARACTER, _MOST_SECONDS)):
            found = masker.mask(text)
    except Exception:  # whatever goes wrong, the text stays here
        return None
    return found.text, {entity.value: count for entity, count in found.counts.items()}


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Of CPU time: a busy machine makes no text unmaskable."""
    if signal.getsignal(signal.SIGPROF) is not _give_up:  # to set it costs more than to ask
        signal.signal(signal.SIGPROF, _give_up)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _give_up(*_: object) -> None:
    raise _TooLongError


def _tell(answer: object) -> None:
    sys.stdout.buffer.write(orjson.dumps(answer) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(sys.argv[1])
