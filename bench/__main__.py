"""All measurements, one after the other: ``python -m bench [--only NAME ...] [--json] [--docs]``.

Each runs in processes of its own, as ``python -m bench.NAME`` does. At the end there is one table of
questions, measured values and targets; ``--docs`` writes it and the plots into the documentation.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.harness import say
from bench.targets import TARGETS, Target

_ROOT = Path(__file__).resolve().parents[1]
_PAGE = _ROOT / "docs" / "internals" / "performance.md"
_PLOTS = _ROOT / "docs" / "internals" / "plots"
_BEGIN, _END = "<!-- last run -->", "<!-- end of last run -->"
# Sizes for a whole run of about twelve minutes on two cores.
RUNS: dict[str, list[str]] = {
    "label": [],
    "calls": [],
    "limit": [],
    "endpoints": ["--seconds", "20"],
    "tokens": [],
    "classes": [],
    "variants": [],
    "routing": [],
    "workers": [],
    "latency": [],
    "poller": ["--runs", "2"],
    "sink": ["--runs", "2", "--rows", "200000"],
    "current_view": ["--rows", "1000000"],
    "traces": ["--runs", "3", "--rows", "4000"],
    "profile": [],
}


def run(name: str, arguments: Sequence[str]) -> dict[str, Any] | None:
    """The report of one measurement; None if it failed (its own output on stderr says why)."""
    say(f"--- {name}")
    began = time.monotonic()
    command = [sys.executable, "-m", f"bench.{name}", *arguments, "--json"]
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE) as process:
        try:
            out, _ = process.communicate()
        except BaseException:
            # This program is being stopped: stop the child too, by SIGINT, so that it stops its own stack.
            process.send_signal(signal.SIGINT)
            process.wait(30)
            raise
    lines = out.decode().strip().splitlines()
    if process.returncode or not lines:
        say(f"--- {name} failed")
        return None
    found: dict[str, Any] = json.loads(lines[-1])
    return found | {"seconds": time.monotonic() - began}


def rows_of(found: dict[str, dict[str, Any] | None]) -> list[tuple[str, str, str, str]]:
    """Question, measured value, target and verdict of everything that has a target, failures included."""
    rows = []
    for name, result in found.items():
        wanted = [target for target in TARGETS if target.bench == name]
        ratios = result["ratios"] if result is not None else {}
        for target in wanted:
            value = ratios.get(target.ratio)
            rows.append((target.ratio, _shown(value), target.words, _verdict(target, value)))
        known = {target.ratio for target in wanted}
        rows += [(ratio, _shown(value), "", "") for ratio, value in ratios.items() if ratio not in known]
    return rows


def _verdict(target: Target, value: float | None) -> str:
    if value is None:
        return "not measured"
    return "met" if target.met(value) else "missed"


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3f}"


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """For a terminal."""
    lines = [("question", "measured", "wanted", ""), *rows]
    widths = [max(len(line[at]) for line in lines) for at in range(4)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def markdown(rows: Sequence[tuple[str, ...]], found: dict[str, dict[str, Any] | None], load: str) -> str:
    """For the page: the table, then the figures of each measurement."""
    day = time.strftime("%Y-%m-%d")
    parts = [
        f"Run on {day}: {os.cpu_count()} cores, Python {platform.python_version()}, load {load}.",
        "",
        "| Question | Measured | Wanted | |",
        "|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
    for name, result in found.items():
        if result is None:
            continue
        columns = list(dict.fromkeys(key for numbers in result["figures"].values() for key in numbers))
        parts += ["", f"`bench/{name}.py`: {result['question']}", ""]
        parts += ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
        for label, numbers in result["figures"].items():
            cells = [_cell(numbers.get(column)) for column in columns]
            parts.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(parts)


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def put(page: str, text: str) -> str:
    """``page`` with ``text`` between its markers."""
    head, rest = page.split(_BEGIN, 1)
    tail = rest.split(_END, 1)[1]
    return f"{head}{_BEGIN}\n{text}\n{_END}{tail}"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=RUNS, metavar="NAME", help=", ".join(RUNS))
    parser.add_argument(
        "--docs", action="store_true", help="write the table and the plots of the page on performance"
    )
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    loads = [os.getloadavg()[0]]
    began = time.monotonic()
    found: dict[str, dict[str, Any] | None] = {}
    for name in chosen.only or RUNS:
        extra = ["--plots", str(_PLOTS)] if name == "limit" and chosen.docs else []
        found[name] = run(name, [*RUNS[name], *extra])
        loads.append(os.getloadavg()[0])
        load = f"{min(loads):.1f} to {max(loads):.1f}"
        if chosen.docs:  # written after each one, in case the rest does not finish
            _PAGE.write_text(put(_PAGE.read_text(), markdown(rows_of(found), found, load)))
    rows = rows_of(found)
    say(f"{time.monotonic() - began:.0f} s")
    if chosen.json:
        print(json.dumps({"benches": found, "table": rows}))
    else:
        print(table(rows))
    if None in found.values():
        raise SystemExit(1)


if __name__ == "__main__":
    main()
