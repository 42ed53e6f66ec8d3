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

from streams.cascade.generation import LabeledText, learn
from streams.cascade.monitor import Monitor
from tests.unit.streams.cascade.long_runs.certificates import GENERATIONS, wrong_certificates
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
# Texts that the model is asked twice, where certificates are tried alone.
TWICE = 200
# Seeds of what is only to hold its promise, whatever it saves.
FEW = 3


class Run(NamedTuple):
    texts: Texts
    passed: Passed
    half: int

    @property
    def calls(self) -> float:
        asked = self.passed.by_model.astype(int) + self.passed.twice
        return float(asked[self.half :].mean())

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


def told(name: str, runs: Sequence[Run], most: float | None, *, promised: bool = True) -> bool:
    """A line of the table. Whether calls, certificates and accuracy are as they should be. ``promised``:
    whether accuracy is.
    """
    calls = sorted(run.calls for run in runs)
    deciding = [found for run in runs if (found := run.passed.deciding) is not None]
    least = min(run.least_gain for run in runs)
    median = float(np.median(calls))
    fine = (least >= -MARGIN or not promised) and (
        most is None or (median <= most and len(deciding) >= 0.9 * len(runs))
    )
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


def taught_by_chance(texts: Sequence[Text], times: int) -> int:
    """How many of so many proxies have a threshold that could be certified, whose labels are drawn."""
    random, found = np.random.default_rng(0), 0
    names = sorted({one.label for one in texts})
    for _ in range(times):
        some = random.choice(len(texts), 400, replace=False)
        made = learn([LabeledText(texts[at].text, str(random.choice(names))) for at in some])
        found += bool(made.for_people or made.for_llm)
    return found


def certificates(times: int) -> bool:
    """Of labels on scores alone, without any text. Whether they are wrong as rarely as promised."""
    fine = True
    for good in (0, 2):
        people = wrong_certificates("people", times, MARGIN, RISK, good)
        model = [wrong_certificates("llm", times, MARGIN, RISK, good, twice) for twice in (0, TWICE)]
        fine &= people + max(model) <= RISK
        print(
            f"exactly at the bound after {good} good thresholds, {GENERATIONS} generations, {times} times: "
            f"wrong against people {people:.3f}, against the model {model[0]:.3f}, with {TWICE} texts asked "
            f"twice {model[1]:.3f} ({RISK} allowed in total)",
            flush=True,
        )
    return fine


def of_kinds(texts: Sequence[Text], seeds: Sequence[int]) -> bool:
    """The lines of a file with 18 kinds, and what only they are for."""
    fine, kept = True, []
    for number, (errs, right) in MOST_CALLS.items():
        if len(texts) < number:
            print(f"{len(texts)} texts, not {number}: that line is left out")
            continue
        some = [texts[at] for at in np.random.default_rng(0).permutation(len(texts))[: number + 100]]
        kept = [ran(some, ERRORS, AUDITED, seed) for seed in seeds]
        fine &= told(f"{number} texts, 8 % errors", kept, errs)
        fine &= watched(kept)
        always = [ran(some, 0.0, 0, seed) for seed in seeds]
        fine &= agreeing(f"{number} texts, always right", always, right)
        name, few = f"{number} texts, 8 %, people all along", seeds[:FEW]
        fine &= told(name, [ran(some, ERRORS, AUDITED, seed, True) for seed in few], None)
    novel = [novel_share(texts, 3, seed) for seed in seeds]
    print(
        f"labels never seen: {np.mean(novel):.3f} routed, at most {max(novel):.3f} (0.10 allowed)", flush=True
    )
    return fine and max(novel) <= 0.10


def agreeing(name: str, runs: Sequence[Run], most: float | None) -> bool:
    """A line of a model that is always right: what is promised is agreement, not the margin."""
    told(name, runs, None, promised=False)
    second = [(run, ~run.passed.by_model[run.half :]) for run in runs]
    agrees = [1 + run.gains.sum() / routed.sum() for run, routed in second if routed.any()]
    print(
        f"{'':38} least agreement on the routed texts {min(agrees, default=1.0):.3f} (0.95 promised)",
        flush=True,
    )
    return most is None or float(np.median([run.calls for run in runs])) <= most


def main() -> int:
    """Exit code 1 if a promise is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="CSV with the columns text and scenario, label or both")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument(
        "--times", type=int, default=200, help="repetitions of the certificates; 0: not these"
    )
    given = parser.parse_args()
    seeds = range(given.seeds)
    texts, labelled = read_texts(given.file), read_texts(given.file, "label")
    fine = True
    if given.times:
        fine &= certificates(given.times)
        by_chance = taught_by_chance(texts, given.times)
        print(f"labels at random: {by_chance} of {given.times} with a threshold to certify", flush=True)
        fine &= not by_chance
    if texts != labelled:
        fine &= of_kinds(texts, seeds)
    labels = len({one.label for one in labelled})
    name = f"{len(labelled)} texts, {labels} labels"
    few = [ran(labelled, ERRORS, AUDITED, seed) for seed in seeds[:FEW]]
    fine &= told(f"{name}, 8 % errors", few, None)
    if texts == labelled:
        agreeing(f"{name}, always right", [ran(labelled, 0.0, 0, seed) for seed in seeds[:FEW]], None)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
