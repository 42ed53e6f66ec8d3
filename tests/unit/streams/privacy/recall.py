"""How much personal data is found, and how many clean texts are masked: `make soak-privacy FILE=queries.csv`.

FILE is a CSV with clean messages in ``query_text`` or ``text``: they are the clean texts, and what the made
personal data is said in.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import re
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from streams.privacy.entities import PLACEHOLDER, Entity
from streams.privacy.masking import Masker
from tests.unit.streams.privacy.made_messages import GROUPS, clean_piece, message

LEAST = {
    "well formed": 0.98,
    "slips": 0.80,
    "capitalised names": 0.90,
    "names in other case": 0.70,
    "addresses": 0.80,
}
MOST_CLEAN = 0.005
_WORD = re.compile(r"[^\W_]+")


def leaves(value: str, carrier: str, masked: str) -> set[str]:
    """The words and numbers of ``value`` that are still in the masked text and not of the carrier."""
    rest = Counter(_WORD.findall(PLACEHOLDER.sub(" ", masked).lower()))
    rest -= Counter(_WORD.findall(carrier.lower()))
    return {word for word in _WORD.findall(value.lower()) if rest[word] and len(word) > 1}


def recall(
    masker: Masker, carriers: Sequence[str], count: int, seed: int
) -> tuple[dict[str, float], dict[str, float], list[str]]:
    """The share found by group and by kind, and the messages that were missed."""
    draw = random.Random(seed)
    found: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    missed: list[str] = []
    for group, makers in GROUPS.items():
        for number in range(count):
            kind = list(makers)[number % len(makers)]
            said, value = makers[kind](draw)
            text, carrier = message(draw, carriers, said)
            masked = masker.mask(text).text
            good = not leaves(value, carrier + " " + said.replace(value, " "), masked)
            for key in {group, f"{group}: {kind}"}:
                asked[key] += 1
                found[key] += good
            if not good:
                missed.append(f"{group}: {kind} | {text} | {masked}")
    shares = {key: found[key] / asked[key] for key in asked}
    return {g: shares[g] for g in GROUPS}, {k: v for k, v in shares.items() if ":" in k}, missed


def clean(masker: Masker, texts: Sequence[str]) -> list[str]:
    """The texts that are masked, with what became of them."""
    masked = ((text, masker.mask(text).text) for text in texts)
    return [f"{text} | {changed}" for text, changed in masked if text != changed]


def made_clean(carriers: Sequence[str], count: int, seed: int) -> list[str]:
    """Clean messages with numbers, dates, sums and cities in them."""
    draw = random.Random(seed)
    return [message(draw, carriers, clean_piece(draw))[0] for _ in range(count)]


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("file", type=Path)
    arguments.add_argument("--count", type=int, default=2_000, help="messages of each group")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--named", default="Ольга", help="a text of FILE with this name is not clean")
    arguments.add_argument("--show", action="store_true", help="print what was missed and what was masked")
    given = arguments.parse_args()
    with given.file.open(encoding="utf-8", newline="") as file:
        carriers = [row.get("query_text") or row["text"] for row in csv.DictReader(file)]
    masker = Masker(frozenset(Entity))
    groups, kinds, missed = recall(masker, carriers, given.count, given.seed)
    nameless = [text for text in carriers if given.named not in text]
    texts = [*nameless, *made_clean(nameless, given.count, given.seed)]
    masked = clean(masker, texts)
    speed = {}
    for name, entities in (("with names", frozenset(Entity)), ("without", frozenset(Entity) - {Entity.NAME})):
        timed = Masker(entities)
        begun = time.process_time()
        for text in texts:
            timed.mask(text)
        speed[name] = round(len(texts) / (time.process_time() - begun))
    if given.show:
        print(*missed, *(f"clean | {text}" for text in masked), sep="\n")
    share = len(masked) / len(texts)
    reached = all(groups[name] >= least for name, least in LEAST.items()) and share <= MOST_CLEAN
    print(
        json.dumps(
            {
                "recall": groups,
                "by_kind": kinds,
                "clean_masked": share,
                "rows_per_second": speed,
                "ok": reached,
            },
            ensure_ascii=False,
            indent=2,
        )
    )
    return 0 if reached else 1


if __name__ == "__main__":
    raise SystemExit(main())
