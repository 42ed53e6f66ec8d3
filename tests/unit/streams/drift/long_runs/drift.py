"""How soon drift is found, and how often quiet days raise an alarm: `make soak-drift FILE=texts.csv`.

Rows come at one a second, with a daily swing of a fifth in rate and labels, and texts by Zipf's law. After
some days of reference a change begins at a random time of a day. The labels, texts and confidences pass the
product's own counting, reference and tests. Each case is repeated with other seeds.
"""

from __future__ import annotations

import argparse
import json
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from streams.drift.counts import CONFIDENCE, QUARTERS, Counts
from streams.drift.endpoint import FIRST_ROUNDS, TEXTS, AskedText, EndpointWatch, Round
from streams.drift.texts import Vocabulary, look_at
from streams.drift.watch import DriftFinding, TrafficWatch
from tests.unit.streams.drift.long_runs.traffic import MONDAY, Traffic, quarters
from tests.unit.streams.quality.long_runs.overconfident import Text, read_texts

REFERENCE_DAYS = 9
HOURS_TO_ALARM = 2.0


def counted(rows: Sequence[tuple[Text, int]], vocabulary: Vocabulary) -> Counts:
    """As the query and the look at the texts count them. A text's confidence is made of its letters."""
    labels = Counter[str]()
    of = total = squares = 0.0
    for one, n in rows:
        labels[one.label] += n
        confidence = 0.5 + 0.5 * (zlib.crc32(one.text.encode()) % 1000) / 1000
        of, total, squares = of + n, total + n * confidence, squares + n * confidence**2
    scripts, means = look_at([(one.text, n) for one, n in rows], vocabulary)
    return Counts(labels=dict(labels), scripts=scripts, means={**means, CONFIDENCE: (of, total, squares)})


def watch(
    traffic: Traffic, days: float, change: Callable[[Traffic], None] | None = None, after: float = 0.0
) -> tuple[list[DriftFinding], int]:
    """The alarms of so many days, and the quarter at whose beginning ``change`` was made."""
    watching, vocabulary = TrafficWatch(), Vocabulary()
    changed = MONDAY + round(after * 24 * QUARTERS)
    found: list[DriftFinding] = []
    for quarter in quarters(days):
        if change is not None and quarter == changed:
            change(traffic)
        vocabulary.turn_to(quarter // (24 * QUARTERS))
        found += watching.add(quarter, counted(traffic.rows(quarter), vocabulary))
    return found, changed


def _topic(into: Callable[[str], str], topic: Sequence[Text], traffic: Traffic) -> None:
    traffic.topic_share = 0.05
    traffic.topic = [Text(one.text, into(one.label)) for one in topic]


def _made(texts: Sequence[Text], seed: int, options: dict[str, float]) -> tuple[Traffic, list[Text], str]:
    """Traffic without one label, the texts of that label, and a label of about 3 %."""
    random = np.random.default_rng(seed)
    by_label = Counter(one.label for one in texts)
    kept_back = sorted(name for name, n in by_label.items() if n >= 60)
    away = kept_back[int(random.integers(len(kept_back)))]
    traffic = Traffic([one for one in texts if one.label != away], random, **options)  # type: ignore[arg-type]
    small = min(traffic.labels, key=lambda name: abs(traffic.share(name) - 0.03))
    return traffic, [one for one in texts if one.label == away], small


def case(texts: Sequence[Text], options: dict[str, float], what: str, seed: int) -> dict[str, Any]:
    """One repetition: hours from the change to the first alarm after it, and alarms before it."""
    traffic, topic, small = _made(texts, seed, options)
    if what == "quiet":
        found, _ = watch(traffic, 30)
        return {"case": what, "seed": seed, "alarms": [one.series for one in found]}
    random = np.random.default_rng(seed + 10_000)
    after = REFERENCE_DAYS + float(random.uniform(0, 7))
    names = traffic.labels
    heaviest = max(names, key=traffic.share)
    half = names[int(random.integers(len(names)))]
    change: dict[str, Callable[[Traffic], None]] = {
        # Half of the topic's texts go into one label, the others into any.
        "topic half in one label": partial(_topic, _half(half, names, random), topic),
        "topic half in the largest label": partial(_topic, _half(heaviest, names, random), topic),
        "topic in other": partial(_topic, lambda _: "other", topic),
        "label halves": lambda traffic: setattr(traffic, "halved", small),
        "label halves by text": lambda traffic: _halve(traffic, small),
    }
    found, changed = watch(traffic, after + 0.25, change[what], after)
    later = [one for one in found if one.at.timestamp() > changed * 900]
    before = [one.series for one in found if one.at.timestamp() <= changed * 900]

    def hours(one: DriftFinding) -> float:
        return (one.at.timestamp() - changed * 900) / 3600

    return {
        "case": what,
        "seed": seed,
        "hours": hours(later[0]) if later else None,
        "by": later[0].series if later else None,
        "by_label": next((hours(one) for one in later if one.series.startswith("label:")), None),
        "share": round(traffic.share(small), 4),
        "before": before,
    }


def _half(name: str, names: Sequence[str], random: np.random.Generator) -> Callable[[str], str]:
    return lambda _: name if random.random() < 0.5 else names[int(random.integers(len(names)))]


def _halve(traffic: Traffic, label: str) -> None:
    """Every second text of ``label`` is labelled otherwise."""
    other = next(name for name in traffic.labels if name != label)
    mine = [place for place, one in enumerate(traffic.texts) if one.label == label]
    traffic.texts = list(traffic.texts)
    for place in mine[::2]:
        traffic.texts[place] = Text(traffic.texts[place].text, other)


def swapped(noise: float, differs: float, seed: int, *, spread: bool, hours: int) -> dict[str, Any]:
    """Rounds of an endpoint that answers a share ``noise`` otherwise of its own accord, and from hour
    ``hours`` on ``differs`` of the texts for good. ``spread``: any text may be answered otherwise; else a few
    are, every second time.
    """
    random = np.random.default_rng(seed)
    unsteady = np.full(TEXTS, noise) if spread else 0.5 * (random.random(TEXTS) < 2 * noise)
    moved = random.random(TEXTS) < differs
    begun = datetime(2026, 3, 2, tzinfo=UTC)
    texts = [AskedText(row_id=str(number), created_at=begun, label="a") for number in range(TEXTS)]
    watching, false = EndpointWatch(version="v", texts=texts), 0
    for hour in range(hours + 5):
        for _ in range(FIRST_ROUNDS if hour == 0 else 1):
            apart = random.random(TEXTS) < unsteady
            if hour >= hours:
                apart = apart | moved
            before = watching.since
            at = begun + timedelta(hours=hour)
            watching = watching.add(Round(at=at, differed=np.flatnonzero(apart).tolist()))
            false += hour < hours and before is None and watching.since is not None
        if hour >= hours and watching.since is not None:
            took = hour - hours + 1
            return {"case": "model", "seed": seed, "hours": float(took), "before": ["model"] * false}
    return {"case": "model", "seed": seed, "hours": None, "before": ["model"] * false}


CASES = (
    "topic half in one label",
    "topic half in the largest label",
    "topic in other",
    "label halves",
    "label halves by text",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("texts", type=Path, help="a CSV with text, and scenario or label")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--quiet", type=int, default=10, help="months without a change")
    parser.add_argument("--rate", type=float, default=1.0)
    parser.add_argument(
        "--burst", type=float, default=1.0, help="mean number of equal rows that come together"
    )
    parser.add_argument("--weekend", type=float, default=0.0, help="how much less there is on weekends")
    parser.add_argument("--only", choices=(*CASES, "quiet", "model"))
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    texts = read_texts(given.texts)
    options = {"rate": given.rate, "burst": given.burst, "weekend": given.weekend}
    wanted = [(what, seed) for what in CASES for seed in range(given.seeds)]
    wanted += [("quiet", seed) for seed in range(given.quiet)]
    wanted = [one for one in wanted if given.only in (None, one[0])]
    with ProcessPoolExecutor(2) as pool:
        found = list(pool.map(partial(_one, texts, options), wanted))
    if given.only in (None, "model"):
        kinds = [(0.0, False), (0.02, False), (0.02, True), (0.05, False), (0.05, True)]
        for noise, spread in kinds:
            name = f"model, noise {noise} {'in all texts' if spread else 'in some texts'}"
            for seed in range(5 * given.seeds):
                one = swapped(noise, 0.1, seed, spread=spread, hours=6 + 7 * seed)
                found.append({**one, "case": name})
    return _told(found, as_json=given.json)


def _one(texts: Sequence[Text], options: dict[str, float], wanted: tuple[str, int]) -> dict[str, Any]:
    return case(texts, options, *wanted)


def _told(found: Sequence[dict[str, Any]], *, as_json: bool) -> int:
    told: dict[str, Any] = {}
    good = True
    for name in dict.fromkeys(one["case"] for one in found):
        mine = [one for one in found if one["case"] == name]
        if name == "quiet":
            alarms = [len(one["alarms"]) for one in mine]
            told[name] = {
                "months": len(mine),
                "false_alarms": alarms,
                "series": [one["alarms"] for one in mine],
            }
            good &= max(alarms) <= 1
            continue
        hours = [one["hours"] for one in mine]
        late = sum(one is None or one > HOURS_TO_ALARM for one in hours)
        known = sorted(one for one in hours if one is not None)
        told[name] = {
            "runs": len(mine),
            "late_or_never": late,
            "median_hours": known[len(known) // 2] if known else None,
            "most_hours": known[-1] if known else None,
            "late_by_labels_alone": sum(one.get("by_label") is None or one["by_label"] > 2 for one in mine),
            "found_by": dict(Counter(one.get("by", "model").split(":")[0] for one in mine if one["hours"])),
            "before": [one["before"] for one in mine if one["before"]],
        }
        good &= late <= len(mine) // 20
    if as_json:
        print(json.dumps(told))
    else:
        for name, one in told.items():
            print(name, json.dumps(one))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
