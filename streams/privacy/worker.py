"""A process that masks texts for `pool.py`.

A line on standard input is a JSON list of texts, a line on standard output the list of masked ones with their
counts, null for one that cannot be masked. It ends with its input.

Nothing of a text is written anywhere else: not to a log, and not with an error.
"""

from __future__ import annotations

import sys

import orjson

from streams.core.errors import ConfigurationError
from streams.privacy.entities import Entity
from streams.privacy.masking import Masker


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


def _masked(masker: Masker, text: str) -> tuple[str, dict[str, int]] | None:
    try:
        found = masker.mask(text)
    except Exception:  # whatever goes wrong, the text stays here
        return None
    return found.text, {entity.value: count for entity, count in found.counts.items()}


def _tell(answer: object) -> None:
    sys.stdout.buffer.write(orjson.dumps(answer) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(sys.argv[1])
