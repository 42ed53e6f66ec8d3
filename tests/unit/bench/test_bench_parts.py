"""The measurements' own arithmetic: what they say must be right, or their tables are worth nothing."""

from __future__ import annotations

import urllib.error
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bench.__main__ import RUNS, markdown, put, rows_of, table
from bench.calls import zipf_texts
from bench.endpoint import change, endpoint, stats_of
from bench.limit import Seen, judged, rate_at
from bench.plot import Line, chart, ticks
from bench.running import Samples, steady_rate
from bench.targets import TARGETS, Target
from connectors.llm.answer import completion_in
from tests.waiting import PATIENCE, until


def test_the_steady_rate_is_that_of_the_middle_half() -> None:
    slow_start = [number * 1.0 for number in range(10)]
    steady = [10 + number / 50 for number in range(30)]
    slow_end = [20 + number * 1.0 for number in range(10)]
    assert steady_rate([*slow_start, *steady, *slow_end]) == pytest.approx(50, rel=0.1)
    assert steady_rate(number / 200 for number in range(1000)) == pytest.approx(200)


def test_cpu_is_taken_between_two_counts_of_messages() -> None:
    samples = Samples(at=[0.0, 1.0, 2.0], count=[0, 100, 300], cpu=[5.0, 6.0, 7.0])
    assert samples.cpu_between(100, 300) == pytest.approx(1.0)
    assert samples.cpu_between(50, 200) == pytest.approx(1.0)


def test_zipf_texts_are_the_same_each_time_and_few_lead() -> None:
    texts = zipf_texts(5000, 500)
    assert texts == zipf_texts(5000, 500)
    counts = sorted((texts.count(one) for one in set(texts)), reverse=True)
    assert len(counts) > 400
    assert counts[0] > 15 * counts[len(counts) // 2]


def _looks(rate: float, slots: int, waiting: int, refused: float = 0.0) -> Iterator[Seen]:
    for tick in range(121):
        at = tick / 4
        yield Seen(at, slots, int(rate * at), int((rate + refused) * at), int(refused * at), slots, waiting)


def test_a_phase_of_the_limit_is_judged_by_capacity_refusals_and_the_line() -> None:
    capacity = 16 / 0.3
    good = judged(list(_looks(capacity, 16, 2)), 0.0, 30.0)
    assert good["of capacity"] == pytest.approx(1.0, abs=0.03)
    assert good["s to 0.9"] < 2
    assert good["429 %"] == 0
    assert good["waiting of slots, most"] == pytest.approx(2 / 16)
    bad = judged(list(_looks(capacity * 0.5, 16, 16, refused=capacity * 0.5)), 0.0, 30.0)
    assert bad["s to 0.9"] == 30.0
    assert bad["429 %"] == pytest.approx(50, abs=2)
    assert bad["of capacity"] == pytest.approx(0.5, abs=0.03)


def test_the_rate_is_that_of_the_window_before() -> None:
    looks = [*_looks(100, 64, 0)]
    assert rate_at(looks, 10.0, 3.0) == pytest.approx(100)
    assert rate_at(looks, 0.0, 3.0) == 0.0


def test_targets_belong_to_measurements_and_are_judged_from_their_side() -> None:
    assert {target.bench for target in TARGETS} <= set(RUNS)
    assert len({target.ratio for target in TARGETS}) == len(TARGETS)
    assert Target("x", "y", least=0.9).met(0.9)
    assert not Target("x", "y", least=0.9).met(0.89)
    assert Target("x", "y", most=1.0).met(0.2)
    assert not Target("x", "y", most=1.0).met(1.01)
    assert all((target.least is None) != (target.most is None) for target in TARGETS)


def test_the_table_shows_what_was_missed_and_what_was_not_measured() -> None:
    found = {
        "poller": {
            "question": "q",
            "ratios": {"poller / raw": 0.5, "other": 1.0},
            "figures": {"a": {"b": 1}},
        },
        "sink": None,
    }
    rows = rows_of(found)
    assert [(name, verdict) for name, _, _, verdict in rows] == [
        ("poller / raw", "missed"),
        ("other", ""),
        ("sink / columns", "not measured"),
    ]
    assert "missed" in table(rows)
    page = put("before <!-- last run -->old<!-- end of last run --> after", markdown(rows, found, "0"))
    assert "old" not in page
    assert "| poller / raw | 0.500 | at least 0.8 | missed |" in page
    assert page.startswith("before ")
    assert page.endswith(" after")


def test_a_chart_is_svg_with_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "plots" / "one.svg"
    chart(
        path, "a < b", "seconds", "rate", [Line("one", [(0, 0), (10, 5)]), Line("two", [(0, 4)], marks=True)]
    )
    root = ET.parse(path).getroot()
    words = {element.text for element in root.iter() if element.text}
    assert {"one", "two", "seconds", "rate", "a < b"} <= words
    assert ticks(213.0) == [0, 50, 100, 150, 200]
    assert ticks(0) == [0]


def test_the_stand_in_has_slots_a_line_and_refusals() -> None:
    def ask(base: str) -> bytes:
        request = urllib.request.Request(f"{base}/chat/completions", data=b"{}", method="POST")
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            content: bytes = answer.read()
            return content

    with ThreadPoolExecutor(8) as pool, endpoint(slots=2, seconds=0.3) as base:
        answers = [pool.submit(ask, base) for _ in range(6)]
        assert completion_in(answers[0].result()).text == '{"label":"delivery"}'
        for one in answers:
            one.result()
        assert stats_of(base)["calls"] == stats_of(base)["answered"] == 6
        assert stats_of(base)["max_in_flight"] > 2
        change(base, queue=0, slots=1, seconds=60.0)
        pool.submit(ask, base)  # until the stand-in is gone
        until(lambda: stats_of(base)["in_flight"])
        with pytest.raises(urllib.error.HTTPError, match="429"):
            ask(base)
        assert stats_of(base)["refused"] == 1
