"""What a run of ``history_scale.py`` has found, as Markdown, and in the page about performance."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_PAGE = Path(__file__).resolve().parents[4] / "docs" / "internals" / "performance.md"
_BEGIN, _END = "<!-- history -->\n", "<!-- end of history -->\n"
# What is as short as this is within twice of anything.
_LEAST_SECONDS, _LEAST_CPU = 0.05, 0.05


def run_of(results: Sequence[dict[str, Any]], calls: int) -> str:
    """A run over some numbers of rows, the last of them with the roles at work."""
    first, last = results[0]["asked"], results[-1]["asked"]
    sizes = [f"{one['rows']:,}" for one in results]
    lines = [
        f"Run on {datetime.now(UTC):%Y-%m-%d}: {os.cpu_count()} cores, load {os.getloadavg()[2]:.1f} at the "
        f"end, {results[-1]['parts'].get('logs_labeled', 0)} parts of `logs_labeled` at {sizes[-1]}.",
        f"Seconds: the 95th percentile of {calls} calls. CPU seconds, of the engine and of the asking "
        "process, and rows read: of the call that took least.",
        "",
        f"| Question | {' | '.join(f'{size} s' for size in sizes)} | the best there | "
        f"{' | '.join(f'{size} CPU' for size in sizes)} | rows read there |",
        "|---|" + "---|" * (2 * len(results) + 2),
    ]
    more = []
    for name, at_last in last.items():
        of = [one["asked"][name] for one in results]
        lines.append(
            f"| {name} | {' | '.join(f'{one.p95:.2f}' for one in of)} | {at_last.best:.2f} | "
            f"{' | '.join(f'{one.cpu:.2f}' for one in of)} | {at_last.read:,} |"
        )
        ratio = at_last.p95 / max(first[name].p95, _LEAST_SECONDS)
        cpu = at_last.cpu / max(first[name].cpu, _LEAST_CPU)
        if ratio > 2 or cpu > 2:
            more.append(f"{name} ({ratio:.1f}; CPU {cpu:.1f})")
    lines += ["", f"More than twice the first column: {', '.join(more) or 'none'}."]
    if results[-1]["at_work"]:
        lines += _at_work(results[-1], calls)
    return "\n".join(lines)


def _at_work(result: dict[str, Any], calls: int) -> list[str]:
    lines = [
        "",
        f"The roles at work beside {result['rows']:,} rows. Routes, of {calls} calls, and commands, of a "
        "quarter of them, were asked while rows were labelled.",
        "Commands are processes, and most of their time is the start. Takeover: from SIGKILL of a role's "
        "process, while another stands by, until rows that come then are stored.",
        "",
        "| At work, seconds | |",
        "|---|---|",
    ]
    lines += [f"| {name} | {seconds:.2f} |" for name, seconds in result["at_work"].items()]
    lines += [f"| takeover: {role} | {took:.2f} |" for role, took in result["taken_over"].items()]
    memory = ", ".join(f"{role} {size}" for role, size in result["peak_mb"].items())
    slow = len(result["slow"])
    lines += ["", f"Memory at most, MB: {memory}. Queries that ran for more than 5 s: {slow or 'none'}."]
    return lines


def write_page(told: str) -> None:
    """Put a run into the page, in the place of the one before."""
    page = _PAGE.read_text("utf-8")
    begin, end = page.index(_BEGIN) + len(_BEGIN), page.index(_END)
    _PAGE.write_text(f"{page[:begin]}{told}\n{page[end:]}", "utf-8")
