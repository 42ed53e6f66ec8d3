"""Weeks of labelled rows, answered by people: a short run of what `make soak-quality` shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from connectors.clickhouse.queries.given_labels import GivenLabel
from streams.quality.evaluate import GoldOfTables
from streams.quality.report import summary
from streams.quality.settled import settled_rows
from tests.unit.streams.quality.long_runs.reviewed_weeks import MONDAY, answers, draw

WEEKS, ROWS, UNSURE = 25, 800, 80


@pytest.mark.parametrize(("share", "per_label"), [(0.1, 0), (0.05, 15)])
def test_the_interval_holds_the_truth_though_unsure_rows_were_reviewed(share: float, per_label: int) -> None:
    random = np.random.default_rng(7)
    held = biased = 0
    for _ in range(WEEKS):
        gold = random.choice(np.array(list("abcd"), dtype=object), ROWS, p=[0.6, 0.3, 0.08, 0.02])
        sure = random.random(ROWS)
        # The less sure, the likelier wrong.
        label = np.where(random.random(ROWS) < 0.2 + 1.2 * sure, gold, "c")
        drawn = draw(label, share, per_label, random)
        unsure = np.argsort(sure)[:UNSURE].tolist()
        rows = [one for one in settled_rows(answers(drawn, unsure, gold, label, random)) if one.judged]
        given = {one.place: GivenLabel(MONDAY, str(label[int(one.place.row_id)]), None, None) for one in rows}
        lines = GoldOfTables(rows, 0, 0, None).lines(given)
        for whether, found in (
            (True, summary(lines, False)),
            (False, summary([replace(one, probability=None) for one in lines], True)),
        ):
            inside = found["accuracy_low"] <= (label == gold).mean() <= found["accuracy_high"]
            held += inside and whether
            biased += inside and not whether
    assert held >= 0.88 * WEEKS
    assert biased <= 0.5 * WEEKS
