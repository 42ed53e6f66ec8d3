"""A comparison of two label versions as tables for the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from connectors.clickhouse.queries.version_diff import Changed, Diff, Group

_TEXT = 60
_PAIRS = 20


def show_diff(diff: Diff, console: Console | None = None) -> None:
    """Print the comparison."""
    out = console or Console()
    share = f"{diff.agreement:.1%}" if diff.agreement is not None else "nothing to compare"
    if diff.sample is not None:
        out.print(f"a sample, {diff.sample:.2%} of the time, in sixteen spans:", highlight=False)
    out.print(
        f"{diff.rows} rows have both; the same label: {diff.agree} ({share}); "
        f"only {escape(diff.a)}: {diff.only_a}; only {escape(diff.b)}: {diff.only_b}",
        highlight=False,
    )
    out.print(
        f"mean confidence: {_number(diff.confidence_a)} -> {_number(diff.confidence_b)}", highlight=False
    )
    out.print(_changes(diff))
    out.print(_groups("label of " + diff.a, diff.by_label))
    out.print(_groups("week from", diff.by_week))
    out.print(_rows("the most telling examples", diff, diff.examples))
    if diff.changed:
        out.print(_rows("changed rows", diff, diff.changed))


def _changes(diff: Diff) -> Table:
    table = Table(title="changed labels", title_justify="left")
    for name in (diff.a, diff.b):
        table.add_column(escape(name))
    table.add_column("rows", justify="right")
    pairs = [(n, a, b) for a, others in diff.matrix.items() for b, n in others.items() if a != b]
    for count, a, b in sorted(pairs, reverse=True)[:_PAIRS]:
        table.add_row(escape(a), escape(b), str(count))
    return table


def _groups(title: str, groups: list[Group]) -> Table:
    table = Table(title_justify="left")
    table.add_column(escape(title))
    for name in ("rows", "agree", "confidence"):
        table.add_column(name, justify="right")
    for one in groups:
        shift = f"{one.confidence_shift:+.3f}" if one.confidence_shift is not None else "-"
        table.add_row(escape(one.name), str(one.rows), f"{one.agree / one.rows:.1%}", shift)
    return table


def _rows(title: str, diff: Diff, rows: list[Changed]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in ("row", "text", diff.a, diff.b):
        table.add_column(escape(name), overflow="fold")
    for one in rows:
        text = one.text if len(one.text) <= _TEXT else one.text[:_TEXT] + "..."
        table.add_row(
            escape(one.row_id),
            escape(text),
            f"{escape(one.label_a)} {_number(one.confidence_a)}",
            f"{escape(one.label_b)} {_number(one.confidence_b)}",
        )
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
