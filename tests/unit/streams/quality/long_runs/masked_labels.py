"""Whether labels suffer from masking: `make soak-masked-labels FILE=texts.csv`.

Unseen texts are labelled as they are, with personal data of all kinds put into them, and both masked. A
classifier of letters has never seen a placeholder if it was taught plain texts, which is the worst case; a
model whose prompt says what a placeholder is stands nearer to one that was taught a part of its texts masked.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from streams.privacy.entities import Entity
from streams.privacy.masking import Masker
from tests.unit.streams.privacy.made_messages import GROUPS
from tests.unit.streams.quality.long_runs.overconfident import Overconfident, Text, parted, read_texts

TAUGHT = 2_500
# As `PROMOTE_MARGIN`: masked texts may not be labelled worse by so much.
MARGIN = 0.03
_MASKED_OF_TAUGHT = 0.3


def put_in(texts: Sequence[str], seed: int) -> list[str]:
    """``texts`` with personal data before or behind each."""
    chance = random.Random(seed)
    makers = [
        maker
        for group in ("well formed", "capitalised names", "addresses")
        for maker in GROUPS[group].values()
    ]
    said = [chance.choice(makers)(chance)[0] for _ in texts]
    return [
        f"{text}, {more}" if chance.random() < 0.6 else f"{more}. {text}"
        for text, more in zip(texts, said, strict=True)
    ]


def compared(
    model: Overconfident, unseen: Sequence[Text], seen: dict[str, Sequence[str]]
) -> dict[str, object]:
    """The accuracy on each form of the texts, and the masked ones' difference with its 95 % interval."""
    gold = np.array([one.label for one in unseen])
    names = np.array(model.labels)
    right = {form: names[model.chances(texts).argmax(1)] == gold for form, texts in seen.items()}
    told: dict[str, object] = {form: round(float(one.mean()), 4) for form, one in right.items()}
    for form in ("clean", "with data"):
        apart = right[f"{form}, masked"].astype(float) - right[form]
        half = 1.96 * float(apart.std()) / math.sqrt(len(apart))
        told[f"{form}: masked - plain"] = [round(float(apart.mean()) + end, 4) for end in (-half, 0.0, half)]
    return told


def main() -> int:
    """Exit code 1 if masked texts with personal data are labelled worse."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="CSV with the columns text and scenario or label")
    parser.add_argument("--column")
    parser.add_argument("--taught", type=int, default=TAUGHT)
    parser.add_argument("--unseen", type=int, default=4_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    masker = Masker(frozenset(Entity))

    def masked(texts: Sequence[str]) -> list[str]:
        return [masker.mask(text).text for text in texts]

    taught, unseen = parted(read_texts(given.file, given.column), given.taught, given.seed)
    unseen = unseen[: given.unseen]
    plain = [one.text for one in unseen]
    filled = put_in(plain, given.seed)
    seen = {
        "clean": plain,
        "clean, masked": masked(plain),
        "with data": filled,
        "with data, masked": masked(filled),
    }
    some = taught[: round(_MASKED_OF_TAUGHT * len(taught))]
    shown = masked(put_in([one.text for one in some], given.seed + 1))
    knowing = [Text(text, one.label) for text, one in zip(shown, some, strict=True)]
    told = {
        "texts": len(unseen),
        "taught plain texts": compared(Overconfident(taught), unseen, seen),
        "taught masked texts too": compared(Overconfident([*taught, *knowing]), unseen, seen),
    }
    print(json.dumps(told, ensure_ascii=False, indent=2))
    return int(any(found["with data: masked - plain"][0] < -MARGIN for found in list(told.values())[1:]))  # type: ignore[index]


if __name__ == "__main__":
    sys.exit(main())
