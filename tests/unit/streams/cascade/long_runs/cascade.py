"""What a cascade saves, and whether its promises hold: `make soak-cascade FILE=texts.csv`.

Texts of a file come in random order to a model that errs at random; people answer 500 of the first half,
rightly. Calls are counted over the second half, where each text is seen first.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from streams.cascade.certificate import Certificate, Kind, risk_of
from streams.cascade.monitor import Monitor
from tests.unit.streams.cascade.long_runs.stream import (
    MARGIN,
    RISK,
    Candidate,
    Passed,
    Strings,
    Texts,
    audited,
    passed,
    with_errors,
)
from tests.unit.streams.quality.long_runs.overconfident import Text, read_texts

AUDITED, ERRORS = 500, 0.08
# At most so many calls, of 1.00 without a cascade, with so many texts: of a model that errs, and one that is
# always right.
MOST_CALLS = {4_700: (0.65, 0.80), 9_300: (0.55, 0.70)}
GENERATIONS = 4


class Run(NamedTuple):
    texts: Texts
    passed: Passed
    half: int

    @property
    def calls(self) -> float:
        return float(self.passed.by_model[self.half :].mean())

    @property
    def gains(self) -> np.ndarray:
        """In the second half: 1 where only the cascade is right, -1 where only the model is."""
        second = slice(self.half, None)
        truth = self.texts.truth[second]
        served, model = self.passed.served[second] == truth, self.texts.model[second] == truth
        return served.astype(int) - model.astype(int)

    @property
    def least_gain(self) -> float:
        """The lower bound of the mean gain, one-sided 95 %."""
        gains = self.gains
        return float(gains.mean() - 1.645 * gains.std() / np.sqrt(len(gains)))


def ran(texts: Sequence[Text], errors: float, people: int, seed: int, spread: bool = False) -> Run:
    random = np.random.default_rng(seed)
    order = random.permutation(len(texts))
    text = np.array([texts[at].text for at in order])
    truth = np.array([texts[at].label for at in order])
    half = len(order) // 2
    stream = Texts(
        text,
        truth,
        with_errors(truth, errors, random),
        with_errors(truth, errors, random),
        audited(len(order), people, len(order) if spread else half, random),
    )
    return Run(stream, passed(stream), half)


def told(name: str, runs: Sequence[Run], most: float | None) -> bool:
    """A line of the table. Whether calls, certificates and accuracy are as they should be."""
    calls = sorted(run.calls for run in runs)
    deciding = [found for run in runs if (found := run.passed.deciding) is not None]
    least = min(run.least_gain for run in runs)
    median = float(np.median(calls))
    fine = least >= -MARGIN and (most is None or (median <= most and len(deciding) >= 0.9 * len(runs)))
    people = sum(one.against == "people" for one in deciding)
    gain = np.mean([run.gains.mean() for run in runs])
    print(
        f"{name:38} calls {median:.3f} ({calls[0]:.3f}..{calls[-1]:.3f})"
        f"{'' if most is None else f' of {most:.2f}'}, certified {len(deciding)} of {len(runs)}, "
        f"{people} against people; gain {gain:+.4f}, its least bound {least:+.4f}"
        f"  {'' if fine else 'MISSED'}",
        flush=True,
    )
    return fine


def novel_share(texts: Sequence[Text], left_out: int, seed: int) -> float:
    """The share of texts of ``left_out`` labels, which never came before, that get a label of the proxy."""
    names = np.random.default_rng(seed).permutation(sorted({one.label for one in texts}))[:left_out]
    deciding = ran([one for one in texts if one.label not in names], ERRORS, AUDITED, seed).passed.deciding
    if deciding is None:
        return 0.0
    decisions = deciding.generation.proxy.decide([one.text for one in texts if one.label in names])
    routed = [deciding.generation.score_of(one) >= (deciding.threshold or 1) for one in decisions]
    return float(np.mean(routed))


def monitored(run: Run, deciding: Candidate) -> tuple[Monitor, np.ndarray]:
    """The monitor as it begins, and the texts of the second half that are routed."""
    made, threshold = deciding.generation, deciding.threshold or 1
    routed = run.half + np.flatnonzero(deciding.score[run.half :] >= threshold)
    return Monitor.new(made.disagreement[threshold], made.label_disagreement), routed


def until_alarm(monitor: Monitor, labels: Strings, model: Strings, most: int, seed: int, counted: str) -> int:
    """How many audits, of the label ``counted`` or of any if it is `*`, are drawn until its alarm or that
    over all; ``most`` at most.
    """
    random, count = np.random.default_rng(seed), 0
    while count < most:
        at = int(random.integers(len(labels)))
        monitor = monitor.observe(str(labels[at]), bool(labels[at] != model[at]))
        count += counted in ("*", labels[at])
        if {counted, "*"} & set(monitor.alarms):
            break
    return count


def watched(runs: Sequence[Run]) -> bool:
    """Monitors after each run: a label that flips, a quarter of the labels that are wrong, and no change."""
    flips, wrong, quiet, alarms = [], [], 0, 0
    for seed, run in enumerate(runs):
        deciding = run.passed.deciding
        if deciding is None:
            continue
        monitor, routed = monitored(run, deciding)
        labels, model = deciding.label[routed], run.texts.model[routed]
        for name in sorted(set(labels.tolist())):
            flipped = np.where(model == name, "another", model)
            flips.append(until_alarm(monitor, labels, flipped, 200, seed, name))
        random = np.random.default_rng(seed)
        spoilt = np.where(random.random(len(labels)) < 0.25, "another", labels)
        wrong.append(until_alarm(monitor, labels, spoilt, 2_000, seed, "*"))
        quiet += (rows := until_alarm(monitor, labels, model, 10_000, seed, "*"))
        alarms += rows < 10_000
    print(
        f"a label flips: alarm after {np.median(flips):.0f} audits of it in the median, at most {max(flips)} "
        f"(50 allowed); a quarter goes wrong: {np.median(wrong):.0f}, at most {max(wrong)} (500 allowed); "
        f"nothing changes: {alarms} alarms over all in {quiet} audits",
        flush=True,
    )
    return max(flips) <= 50 and max(wrong) <= 500


def wrong_certificates(kind: Kind, times: int, rows: int) -> float:
    """How often any of several generations is certified whose proxy is exactly at the bound, at each
    threshold; with the half of the risk that is the kind's.
    """
    random, wrong = np.random.default_rng(7), 0
    for _ in range(times):
        limit = MARGIN if kind == "people" else 0.12
        for generation in range(1, GENERATIONS + 1):
            certificate = Certificate.new(kind, [0.9, 0.8, 0.7, 0.6, 0.5], limit, risk_of(RISK, generation))
            # Each threshold takes in a fifth more of the texts, and its losses in proportion.
            scores = random.random(rows) * (0.5 if kind == "llm" else 1.0) + (0.5 if kind == "llm" else 0.0)
            draws, gained = random.random(rows), 0.03 if kind == "people" else 0.0
            for score, draw in zip(scores.tolist(), draws.tolist(), strict=True):
                at = 0.95 if kind == "people" else score  # of people all losses are above all thresholds
                loss = -1 if draw < gained else int(draw < 2 * gained + limit)
                certificate = certificate.observe(at, loss)
                if certificate.certified:
                    break
            if certificate.certified:
                wrong += 1
                break
    return wrong / times


def main() -> int:
    """Exit code 1 if a promise is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="CSV with the columns text and scenario, label or both")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--times", type=int, default=200, help="repetitions of the certificates")
    given = parser.parse_args()
    seeds = range(given.seeds)
    texts = read_texts(given.file)
    enough = [number for number in MOST_CALLS if len(texts) >= number]
    for number in MOST_CALLS:
        if number not in enough:
            print(f"{len(texts)} texts, not {number}: that line is left out")
    fine, kept = True, []
    for number in enough:
        some = [texts[at] for at in np.random.default_rng(0).permutation(len(texts))[: number + 100]]
        errs, right = MOST_CALLS[number]
        kept = [ran(some, ERRORS, AUDITED, seed) for seed in seeds]
        fine &= told(f"{number} texts, 8 % errors", kept, errs)
        fine &= told(
            f"{number} texts, 8 %, people all along",
            [ran(some, ERRORS, AUDITED, s, True) for s in seeds],
            None,
        )
        always = [ran(some, 0.0, 0, seed) for seed in seeds]
        # Its promise is an agreement of 0.95 on what is routed, not the margin.
        agrees = min(float(1 + r.gains.sum() / max(1, (~r.passed.by_model[r.half :]).sum())) for r in always)
        told(f"{number} texts, always right", always, right)
        print(f"{'':38} least agreement on the routed texts {agrees:.3f} (0.95 promised)")
        fine &= float(np.median([run.calls for run in always])) <= right
    fine &= told(
        "the column label", [ran(read_texts(given.file, "label"), ERRORS, AUDITED, s) for s in seeds], None
    )
    if kept:
        fine &= watched(kept)
    novel = [novel_share(texts, 3, seed) for seed in seeds]
    print(
        f"labels never seen: {np.mean(novel):.3f} routed, at most {max(novel):.3f} (0.10 allowed)", flush=True
    )
    fine &= max(novel) <= 0.10
    random = np.random.default_rng(0)
    names = np.array(sorted({one.label for one in texts}))
    by_chance = [
        ran([Text(one.text, str(random.choice(names))) for one in texts], 0.0, AUDITED, seed)
        for seed in seeds
    ]
    certified = sum(run.passed.deciding is not None for run in by_chance)
    print(f"labels at random: {certified} of {len(by_chance)} certified", flush=True)
    shares = {kind: wrong_certificates(kind, given.times, 1_000) for kind in ("people", "llm")}
    print(f"at the bound, {GENERATIONS} generations: wrong certificates {shares}, {RISK} allowed in total")
    # 200 repetitions have a standard error of 0.011 at a share of 0.025.
    fine &= certified == 0 and sum(shares.values()) <= RISK
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
