"""One screen: what `status` shows of what was found."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from streams.cli.status_screen import duration, picture

FOUND: dict[str, Any] = {
    "parts": {"kafka": "", "clickhouse": "ClickHouse does not answer (CLICKHOUSE_HOST)"},
    "topics": {
        "esk.rows": {
            "messages": 120,
            "kept": 100,
            "rate": 2.5,
            "lag": {"esk-agents": 30},
            "lag_seconds": {"esk-agents": 720.0},
        },
        "esk.labeled": {
            "messages": 90,
            "kept": 90,
            "rate": 0.0,
            "lag": {"esk-agents": 0, "esk-sink": 0},
            "lag_seconds": {"esk-agents": 0.0, "esk-sink": 0.0},
        },
    },
    "groups": {"esk-agents": 2, "esk-sink": 0},
    "roles": [
        {
            "role": "agents",
            "pid": 77,
            "health": "ok",
            "ready": "ok",
            "label_version": "m.1",
            "counts": {"done:label": 90, "dead_letters:label:gave-up": 1},
            "endpoints": {
                "labeler": {
                    "limit": 0,
                    "in_flight": 1,
                    "waiting": 2,
                    "waiting_replay": 5,
                    "available": False,
                    "reason": "[it] does not answer",
                }
            },
            "outages": [
                {
                    "topic": "esk.labeled",
                    "partition": 3,
                    "since": "2026-01-31T09:00:00+00:00",
                    "why": "it has no leader",
                }
            ],
        },
        {
            "role": "poller",
            "health": "ok",
            "ready": "ok",
            "problem": "none of [3] rows has a time",
            "waits_for": [{"topic": "esk.rows", "group": "esk-agents", "unread": 70_000, "why": "age"}],
        },
        {"role": "sink", "health": "does not answer: refused", "ready": "no"},
    ],
    "late": [{"topic": "esk.labeled", "group": "esk-sink", "unread": 7, "why": "age"}],
    "privacy": {"mode": "mask", "entities": ["phone", "name"]},
    "drift": {
        "alarms": [
            {
                "series": "label:cards",
                "window": "2 h",
                "found": 0.06,
                "expected": 0.031,
                "since": "2026-01-31T09:00:00Z",
            }
        ],
        "accuracy": {"alarm": True, "now": 0.2, "wrong": 0.08},
        "model": {"version": "m.1", "texts": 100, "differs": 0.1, "since": "2026-01-31T09:00:00+00:00"},
    },
    "lost": [
        {"topic": "esk.rows", "group": "esk-agents", "messages": 8_000, "open": 3_000},
        {"topic": "esk.augmented", "group": "esk-sink", "messages": 5, "open": 0},
    ],
    "versions": [
        *(
            {"version": f"m.{n}", "status": "promoted", "current": n == 1, "live": False, "model": "m"}
            for n in range(1, 8)
        ),
        {"version": "m.new", "status": "trial", "current": False, "live": True, "model": "m"},
    ],
    "replays": [
        {"id": "20260131-1", "state": "paused", "published": 5, "expected": 9, "version": "m.2"},
    ],
    "canary": None,
}


def shown(found: dict[str, Any], at: datetime = datetime(2026, 1, 31, 9, 30)) -> str:
    # Whatever the terminal is in which the tests run, and what others set in its environment.
    console = Console(file=io.StringIO(), width=160, height=80, force_terminal=False)
    console.print(picture(found, at))
    file: Any = console.file
    text: str = file.getvalue()
    return text


def test_everything_that_was_found_is_on_the_screen() -> None:
    text = shown(FOUND)
    for words in (
        "clickhouse is down: ClickHouse does not answer (CLICKHOUSE_HOST)",
        "esk-agents 30, oldest 12 min",
        "nobody is at work in esk-sink",
        "done label 90",
        "[it] does not answer",  # what others say is no markup
        "does not answer: refused",
        "agents cannot write esk.labeled/3 since 2026-01-31T09:00:00+00:00: it has no leader",
        "publishes nothing: none of [3] rows has a time",
        "poller waits for its readers: esk-agents has 70000 messages of esk.rows to read",
        "esk-sink is late in esk.labeled: 7 messages wait",
        "retention took 8000 messages of esk.rows before esk-agents read them; the rows of 3000 are still",
        "retention took 5 messages of esk.augmented before esk-sink read them; their rows were looked for",
        "current",
        "trial, live",
        "and 3 more",
        "20260131-1",
        "paused",
        "2026-01-31 09:30:00",
    ):
        assert words in text, f"{words}\n{text}"
    assert "kafka is down" not in text


def test_nothing_found_is_a_screen_too() -> None:
    nothing = {
        "parts": {"kafka": "away", "clickhouse": "away"},
        "topics": {},
        "groups": {},
        "roles": [],
        "versions": [],
        "replays": [],
        "canary": None,
        "late": [],
        "lost": [],
        "drift": None,
        "privacy": {"mode": "mask", "entities": ["phone", "name"]},
    }
    text = shown(nothing)
    assert "kafka is down: away" in text
    assert "no role runs" in text


def test_a_canary_is_shown_with_its_figures_and_a_week_after_its_end() -> None:
    canary = {
        "version": "v2",
        "share": 0.05,
        "state": "stopped",
        "begun_at": "2026-01-01T00:00:00Z",
        "promote": True,
        "stopped": {"why": "loss", "text": "12 lost", "at": "2026-01-02T00:00:00Z"},
        "figures": {
            "beside": "v1",
            "pairs": 120,
            "failed": 1,
            "compared": 120,
            "agreement": 0.9,
            "moved": [{"from": "a", "to": "b", "rows": 12}],
            "judged": {"rows": 50, "won": 0, "lost": 12, "evidence": 31.25, "limit": 20.0},
            "gate": {"text": "worse"},
        },
    }
    text = shown({**FOUND, "canary": canary}, datetime(2026, 1, 8, tzinfo=UTC))
    for part in ("5.00%", "(loss): 12 lost", "120 rows with a label of both", "a -> b 12", "gate: worse"):
        assert part in text
    assert "canary" not in shown({**FOUND, "canary": canary}, datetime(2026, 1, 10, tzinfo=UTC))
    assert "no figures yet" in shown({**FOUND, "canary": {**canary, "stopped": None, "figures": None}})


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (45.2, "45 s"), (720, "12 min"), (12_240, "3.4 h"), (200_000, "2.3 d")],
)
def test_durations_are_in_words_of_one_size(seconds: float, text: str) -> None:
    assert duration(seconds) == text
